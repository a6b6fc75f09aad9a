-- Lanes, leases and the ends of messages: the rules of docs/semantics.md, Q2 to Q14.

local function lane_key(known)
  return P .. 'lane:' .. known[Q] .. '\1' .. known[KEY]
end

-- Messages of one key that wait for their time, by that time.
local function waiting_key(queue, key)
  return P .. 'waiting:' .. queue .. '\1' .. key
end

-- Heads that may be leased: higher priority first, then the earlier place.
local function ready_key(queue)
  return P .. 'ready:' .. queue
end

local function rank(known)
  return (9 - known[PRIORITY]) * 562949953421312 + known[PLACE]
end

local function offer(name, known)
  write('ZADD', ready_key(known[Q]), rank(known), name)
  hinted_queues[known[Q]] = true
end

-- Offers a message if it may be leased now, or withdraws it.
local function refresh(name)
  local known = head(name)
  if not known then
    return
  end
  local is_head, second = true, nil
  if known[KEY] then
    local first = call('ZRANGE', lane_key(known), 0, 1)
    is_head, second = first[1] == name, first[2]
  end
  if is_head and known[STAGE] == READY and not known[NOT_BEFORE] then
    offer(name, known)
  else
    write('ZREM', ready_key(known[Q]), name)
  end
  -- A message that joined ahead of the former head takes its place.
  if is_head and second then
    write('ZREM', ready_key(known[Q]), second)
  end
end

-- Offers the head of the lane this message has left.
local function refresh_head(left)
  local first = call('ZRANGE', lane_key(left), 0, 0)[1]
  local known = first and head(first)
  if known and known[STAGE] == READY and not known[NOT_BEFORE] then
    offer(first, known)
  end
end

local function join(name, known)
  if known[KEY] then
    write('ZADD', lane_key(known), known[PLACE], name)
  end
end

-- Leaves its lane to the next one, if it is in one.
local function leave(name, known, stage)
  if stage == READY then
    write('ZREM', ready_key(known[Q]), name)
  end
  if known[KEY] and (stage == READY or stage == LEASED) then
    write('ZREM', lane_key(known), name)
    refresh_head(known)
  end
end

local function move_to(name, known, stage)
  if known[STAGE] == LEASED and known[LEASE] then
    write('ZREM', P .. 'leases', name)
  end
  known[STAGE] = stage
  changed[name] = true
end

-- Takes a message out of every index; the caller counts why.
local function forget(name, known, why)
  if known[STAGE] == LEASED then
    write('ZREM', P .. 'leases', name)
  elseif known[STAGE] == SCHEDULED or known[NOT_BEFORE] then
    write('ZREM', P .. 'due', name)
    if known[STAGE] == SCHEDULED and known[KEY] then
      write('ZREM', waiting_key(known[Q], known[KEY]), name)
    end
  end
  if known[EXPIRES] then
    write('ZREM', P .. 'expiring', name)
  end
  heads[name], changed[name], gone[name] = false, nil, known
  count(known[Q], why, 1)
  leave(name, known, known[STAGE])
end

local function is_expired(known)
  return known[EXPIRES] and known[EXPIRES] <= now
end

-- Makes a message a dead letter of its queue.
local function bury(name, known, reason)
  local stage = known[STAGE]
  move_to(name, known, DEAD)
  known[LEASE], known[NOT_BEFORE], known[STOP], known[REASON] = false, false, false, reason
  leave(name, known, stage)
end

local apply

-- The effects for the case that the store itself ends a message, which are named after it.
local function last_words(name, known)
  if not known[LAST_WORDS] then
    return false
  end
  return unpack_one(new_words[name] or call('HGET', MESSAGES, 'w' .. name))
end

local function expire(name, known)
  local words = last_words(name, known)
  forget(name, known, 'expired')
  apply(words, name .. known[NONCE])
end

local function give_up(name, known, reason)
  local words = last_words(name, known)
  bury(name, known, reason)
  apply(words, name .. known[NONCE])
end

-- Back to its place after a retry or lapse, or dead, or expired.
local function return_to_place(name, known, reason)
  if known[ATTEMPT] >= known[MAX] then
    local cause = reason or 'the lease ran out'
    return give_up(name, known, 'attempts used up (' .. known[ATTEMPT] .. '): ' .. cause)
  end
  if is_expired(known) then
    return expire(name, known)
  end
  if known[EXPIRES] then
    -- Its time may have been noticed while it was leased, on a clock that stepped back since.
    falls_due('expiring', known[EXPIRES], name)
  end
  move_to(name, known, READY)
  known[LEASE], known[STOP], known[REASON] = false, false, reason or known[REASON]
  refresh(name)
end

local function lapse(name)
  local known = head(name)
  if known and known[STAGE] == LEASED then
    return_to_place(name, known, nil)
  end
end

local function come_due(name)
  local known = head(name)
  if not known then
    return
  end
  if known[STAGE] == SCHEDULED then
    if known[KEY] then
      write('ZREM', waiting_key(known[Q], known[KEY]), name)
    end
    move_to(name, known, READY)
    known[PLACE] = next_seq()
    join(name, known)
    refresh(name)
  elseif known[STAGE] == READY then
    known[NOT_BEFORE] = false
    changed[name] = true
    refresh(name)
  end
end

local function expire_if_unleased(name)
  local known = head(name)
  if known and (known[STAGE] == SCHEDULED or known[STAGE] == READY) then
    expire(name, known)
  end
end

-- Takes up to `limit` of what is due out of an index, the oldest first.
local function notice_due(index, limit, act)
  local noticed = 0
  while noticed < limit do
    local names = call('ZRANGEBYSCORE', P .. index, '-inf', now, 'LIMIT', 0, limit - noticed)
    if #names == 0 then
      break
    end
    for _, name in ipairs(names) do
      if write('ZREM', P .. index, name) == 1 then
        act(name)
        noticed = noticed + 1
      end
    end
  end
  return noticed
end

-- Looks again when the next thing falls due.
local function look_ahead()
  next_due = NEVER
  for _, index in ipairs({ 'expiring', 'leases', 'due' }) do
    local first = call('ZRANGE', P .. index, 0, 0, 'WITHSCORES')
    next_due = math.min(next_due, tonumber(first[2] or NEVER))
  end
  dirty = true
end

local function tick()
  if now >= next_due then
    notice_due('expiring', TICK_ITEMS_MAX, expire_if_unleased)
    notice_due('leases', TICK_ITEMS_MAX, lapse)
    notice_due('due', TICK_ITEMS_MAX, come_due)
    look_ahead()
  end
end

-- Q10: what is due in a key takes its place before anything new does. Answers whether all of it has: one script lines up
-- no more than the server can stand still for.
-- numbers: LINE_UP_MAX=10000
local lined_up = 0
local function line_up_key(queue, key)
  local until_then = math.max(now, behind)
  if not key or until_then < next_due then
    return true
  end
  local index = waiting_key(queue, key)
  while true do
    local first = call('ZRANGE', index, 0, 0, 'WITHSCORES')
    if #first == 0 or tonumber(first[2]) > until_then then
      return true
    elseif lined_up == LINE_UP_MAX then
      return false
    end
    lined_up = lined_up + 1
    write('ZREM', P .. 'due', first[1])
    write('ZREM', index, first[1])
    come_due(first[1])
  end
end

-- A message by its name and nonce, with what time has brought to it; nil for another queue's or another nonce.
local function notice(name, nonce, queue)
  local known = head(name)
  if known and known[NONCE] == nonce then
    if known[STAGE] == LEASED then
      if known[LEASE] <= now then
        lapse(name)
      end
    elseif known[STAGE] ~= DEAD and is_expired(known) then
      expire(name, known)
    end
  end
  known = head(name)
  if known and known[NONCE] == nonce and known[Q] == queue then
    return known
  end
end

-- Stores one message; an effect, which cannot come again, in any case. Codes: 0 stored, 1 stored before, 2 the dedup key has other content, 3 the lane is full,
-- 4 others of its key have to take their places first, and some have.
-- Then its number, its nonce, its position, and whether one ahead of it is leased.
local function enqueue_one(new, ended, is_effect)
  local queue, key, dedup, nonce = new[1], new[2], new[10], new[7]
  local scope = dedup and 'q' .. queue .. '\1' .. dedup[1]
  if dedup then
    local code, answer, its_nonce = seen(scope, dedup[2])
    if code ~= 0 then
      return { code, answer, its_nonce, 0, 0 }
    end
  end
  local due = new[5] and new[5] > now and new[5]
  if not line_up_key(queue, key) then
    if not is_effect then
      return { 4, 0, '', 0, 0 }
    elseif not due then
      -- It waits behind all that is due now, and takes its place after them.
      due, behind = now, math.max(behind, now)
    end
  end
  if key and new[11] and not is_effect then
    if call('ZCARD', P .. 'lane:' .. queue .. '\1' .. key) >= new[11] then
      return { 3, 0, '', 0, 0 }
    end
  end
  local number = next_seq()
  local name = name_of(number)
  if dedup then
    remember(scope, dedup, number, nonce)
  end
  local stage = due and SCHEDULED or READY
  local known = {
    queue, key, new[3], new[4], now, due, new[6], nonce, ended or false,
    stage, number, 0, 0, false, false, false, false, new[9] and true or false,
  }
  heads[name], changed[name], new_bodies[name], new_words[name] = known, true, new[8], new[9] or nil
  if known[EXPIRES] then
    falls_due('expiring', known[EXPIRES], name)
  end
  if due then
    falls_due('due', due, name)
    if key then
      write('ZADD', waiting_key(queue, key), due, name)
    end
    return { 0, number, nonce, 1, 0 }
  end
  if not key then
    offer(name, known)
    return { 0, number, nonce, 1, 0 }
  end
  -- Its place is the highest there is: it is the head only if it is alone.
  write('ZADD', lane_key(known), number, name)
  local length = call('ZCARD', lane_key(known))
  if length == 1 then
    offer(name, known)
    return { 0, number, nonce, 1, 0 }
  end
  local first = head(call('ZRANGE', lane_key(known), 0, 0)[1])
  return { 0, number, nonce, length, first and first[STAGE] == LEASED and 1 or 0 }
end

-- Applies effects in order: {message} or {false, event}; events are appended last.
apply = function(effects, ended)
  if not effects then
    return
  end
  local events = {}
  for _, effect in ipairs(effects) do
    if effect[1] then
      enqueue_one(effect[1], ended, true)
    else
      events[#events + 1] = effect[2]
    end
  end
  append_all(events)
end

-- Whether a lease is the message's current one.
local function holds(known, lease)
  return known and known[STAGE] == LEASED and known[TOKEN] == lease
end
