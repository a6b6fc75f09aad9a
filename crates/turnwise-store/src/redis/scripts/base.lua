-- What every operation starts with. KEYS[1] is the prefix of all keys of the namespace, which holds the hash tag.
-- ARGV: epoch, writes this node has seen acknowledged, the time or '', this node, then what the operation needs.
local P = KEYS[1]
local call, pack, unpack_one = redis.call, cmsgpack.pack, cmsgpack.unpack
local meta = call('HMGET', P .. 'meta', 'epoch', 'writes', 'seq', 'token', 'next', 'behind')
if meta[1] ~= ARGV[1] or tonumber(meta[2]) < tonumber(ARGV[2]) then
  -- Clause X5: another history than the one this node has seen. Nothing is done until it has joined this one.
  return redis.error_reply('TWLOST the history of this store is another one')
end
local writes, seq, token = tonumber(meta[2]), tonumber(meta[3]), tonumber(meta[4])
-- Nothing falls due, lapses or expires before this time; perhaps nothing does then either.
local next_due = tonumber(meta[5] or 0)
-- What fell due by this time takes its place before anything new, also on a clock that stepped back since.
local behind = tonumber(meta[6] or 0)
-- The time: the only line that asks for it. Tests bring their own.
local now = tonumber(ARGV[3])
if not now then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

-- Names for numbers, replaced before a script is sent: see scripts.rs.
-- numbers: NEVER=4503599627370496 TICK_ITEMS_MAX=1000 PAGE_BYTES_MAX=1048576 CHUNK_EVENTS_MAX=64
-- A command takes this many arguments at most: the stack of a script is small.
-- numbers: ARGUMENTS_MAX=1000
-- Stages, and fields of a message's record.
-- numbers: SCHEDULED=0 READY=1 LEASED=2 DEAD=3
-- numbers: Q=1 KEY=2 PRIORITY=3 MAX=4 STORED=5 DUE=6 EXPIRES=7 NONCE=8 ENDED=9
-- numbers: STAGE=10 PLACE=11 ATTEMPT=12 TOKEN=13 LEASE=14 NOT_BEFORE=15 REASON=16 STOP=17 LAST_WORDS=18

local dirty = false
local function write(...)
  dirty = true
  return call(...)
end

local function name_of(number)
  return string.format('%016.0f', number)
end

local function next_seq()
  seq = seq + 1
  dirty = true
  return seq
end

-- Q4: one counter for the whole store that also follows the clock.
local function next_token()
  token = math.max(token + 1, now)
  dirty = true
  return token
end

-- One command over many members, in bounded pieces.
local function write_many(command, key, values)
  for first = 1, #values, ARGUMENTS_MAX do
    write(command, key, unpack(values, first, math.min(first + ARGUMENTS_MAX - 1, #values)))
  end
end

local hinted_queues, hinted_topics = {}, {}
-- The earliest time at which something that this operation stored falls due.
local soonest = false
local function falls_due(index, at, name)
  if not soonest or at < soonest then
    soonest = at
  end
  next_due = math.min(next_due, at)
  write('ZADD', P .. index, at, name)
end

-- The messages this operation knows. `false` is one that is not there. Of each the hash holds its record under its
-- name, its body under b and its last words under w before the name.
local MESSAGES = P .. 'messages'
local heads, stage_before, changed, gone = {}, {}, {}, {}
local new_bodies, new_words, counts, packed = {}, {}, {}, {}

local function learn_head(name, raw)
  local known = raw and unpack_one(raw) or false
  heads[name] = known
  stage_before[name] = known and known[STAGE] or nil
  return known
end

local function head(name)
  local known = heads[name]
  if known == nil then
    known = learn_head(name, call('HGET', MESSAGES, name))
  end
  return known
end

local function count(queue, what, by)
  local field = queue .. '\1' .. what
  counts[field] = (counts[field] or 0) + by
end

local function stage_key(stage, queue)
  return P .. 'stage' .. stage .. ':' .. queue
end

local function list_of(lists, key)
  local list = lists[key]
  if not list then
    list = {}
    lists[key] = list
  end
  return list
end

-- Writes what is known of the messages, once each.
local function keep_messages()
  local fields, ended, joined, left, held = {}, {}, {}, {}, {}
  for name in pairs(changed) do
    local known, before = heads[name], stage_before[name]
    local record = pack(known)
    packed[name] = record
    fields[#fields + 1], fields[#fields + 2] = name, record
    if before ~= known[STAGE] then
      if before then
        local list = list_of(left, stage_key(before, known[Q]))
        list[#list + 1] = name
      else
        held[known[Q]] = (held[known[Q]] or 0) + 1
        fields[#fields + 1], fields[#fields + 2] = 'b' .. name, new_bodies[name]
        if new_words[name] then
          fields[#fields + 1], fields[#fields + 2] = 'w' .. name, new_words[name]
        end
      end
      local list = list_of(joined, stage_key(known[STAGE], known[Q]))
      -- A name is its number in digits.
      list[#list + 1], list[#list + 2] = name, name
    end
  end
  for name, known in pairs(gone) do
    local before = stage_before[name]
    if before then
      held[known[Q]] = (held[known[Q]] or 0) - 1
      ended[#ended + 1], ended[#ended + 2] = name, 'b' .. name
      if known[LAST_WORDS] then
        ended[#ended + 1] = 'w' .. name
      end
      local list = list_of(left, stage_key(before, known[Q]))
      list[#list + 1] = name
    end
  end
  write_many('HSET', MESSAGES, fields)
  write_many('HDEL', MESSAGES, ended)
  for key, names in pairs(left) do
    write_many('ZREM', key, names)
  end
  for key, names in pairs(joined) do
    write_many('ZADD', key, names)
  end
  for field, by in pairs(counts) do
    write('HINCRBY', P .. 'counts', field, by)
  end
  for queue, by in pairs(held) do
    -- A queue is listed while it holds messages.
    local now_held = by == 0 and by or write('HINCRBY', P .. 'counts', queue .. '\1held', by)
    if by > 0 and now_held == by then
      write('ZADD', P .. 'queues', 0, queue)
    elseif by < 0 and now_held == 0 then
      write('ZREM', P .. 'queues', queue)
    end
  end
end

local topics, changed_topics = {}, {}
local function keep_topics()
  for topic in pairs(changed_topics) do
    if topics[topic] then
      write('HSET', P .. 'topics', topic, pack(topics[topic]))
    end
  end
end

local function keys_of(set)
  local list = {}
  for key in pairs(set) do
    list[#list + 1] = key
  end
  return list
end

-- Writes everything, tells who may have something new, and answers.
local function finish(answer)
  keep_messages()
  keep_topics()
  local hints = ''
  if dirty then
    writes = writes + 1
    call('HSET', P .. 'meta', 'writes', writes, 'seq', seq, 'token', token, 'next', next_due)
    if behind ~= tonumber(meta[6] or 0) then
      call('HSET', P .. 'meta', 'behind', behind)
    end
    if next(hinted_queues) or next(hinted_topics) then
      hints = pack({ ARGV[4], keys_of(hinted_queues), keys_of(hinted_topics) })
      call('PUBLISH', P .. 'hints', hints)
    end
  end
  return { writes, now, soonest or 0, hints, answer }
end

-- Answers without having changed anything.
local function tell(answer)
  return { writes, now, 0, '', answer }
end
