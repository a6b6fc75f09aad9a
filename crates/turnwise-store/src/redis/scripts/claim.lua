-- Bytes after which no more are handed out, then {queue, limit, lease} each. Answers name, record and body of each
-- message, for each.
local bytes_max = tonumber(ARGV[5])
tick()
local bytes, ended = 0, 0
local bodies = {}

-- The names of up to `limit` heads, which it leases.
local function lease_heads(queue, limit, lease)
  local claimed = {}
  local is_open = bytes <= bytes_max and ended < TICK_ITEMS_MAX
  if not is_open then
    hinted_queues[queue] = true
  end
  while is_open and #claimed < limit do
    local heads_now = call('ZPOPMIN', ready_key(queue), limit - #claimed)
    is_open = #heads_now > 0
    dirty = dirty or is_open
    local taken = 0
    for at = 1, #heads_now, 2 do
      local name = heads_now[at]
      local known, body = heads[name], new_bodies[name]
      if not known or not body then
        local raw = call('HMGET', MESSAGES, name, 'b' .. name)
        known, body = known or learn_head(name, raw[1]), raw[2]
      end
      local is_used_up = known and known[ATTEMPT] >= known[MAX]
      if not known or not body then
        -- Only its place is left, which a server that evicts can do: it holds up nobody else.
        taken = at + 1
      elseif is_used_up or is_expired(known) then
        is_open = ended < TICK_ITEMS_MAX
        if is_open then
          taken, ended = at + 1, ended + 1
          if is_used_up then
            give_up(name, known, 'attempts used up: the holder died')
          else
            expire(name, known)
          end
        end
        -- Others may be heads now.
        break
      else
        taken = at + 1
        move_to(name, known, LEASED)
        known[ATTEMPT], known[TOKEN], known[LEASE] = known[ATTEMPT] + 1, next_token(), now + lease
        falls_due('leases', known[LEASE], name)
        claimed[#claimed + 1], bodies[name] = name, body
        bytes = bytes + #body
        if bytes > bytes_max then
          is_open = false
          hinted_queues[queue] = true
          break
        end
      end
    end
    -- Heads that are not needed wait on.
    for at = taken + 1, #heads_now, 2 do
      write('ZADD', ready_key(queue), heads_now[at + 1], heads_now[at])
    end
  end
  if ended == TICK_ITEMS_MAX or next_due <= now then
    -- More may be claimable once more was noticed: whoever claims should come again.
    hinted_queues[queue] = true
  end
  return claimed
end

local claims = {}
for at = 6, #ARGV do
  local claim = unpack_one(ARGV[at])
  claims[at - 5] = lease_heads(claim[1], claim[2], claim[3])
end
local answer = finish({})
for number, claimed in ipairs(claims) do
  local messages = {}
  for at, name in ipairs(claimed) do
    messages[3 * at - 2], messages[3 * at - 1], messages[3 * at] = name, packed[name], bodies[name]
  end
  answer[5][number] = messages
end
return answer
