-- Dedup keys, and appending to topics. A topic's record is {first, last, keep_until or false, bytes}.

-- 0: not in use. 1: the same content, 2: other content, and what was answered then.
local function seen(scope, hash)
  local raw = call('HGET', P .. 'dedup', scope)
  if not raw then
    return 0
  end
  local known = unpack_one(raw)
  if known[2] <= now then
    write('HDEL', P .. 'dedup', scope)
    write('ZREM', P .. 'dedup_ends', scope)
    return 0
  end
  return known[1] == hash and 1 or 2, known[3], known[4]
end

local function remember(scope, dedup, answer, nonce)
  local ends = now + dedup[3]
  if ends <= now then
    return
  end
  write('HSET', P .. 'dedup', scope, pack({ dedup[2], ends, answer, nonce }))
  write('ZADD', P .. 'dedup_ends', ends, scope)
end

local function topic_of(topic)
  local known = topics[topic]
  if known == nil then
    local raw = call('HGET', P .. 'topics', topic)
    known = raw and unpack_one(raw) or false
    topics[topic] = known
  end
  return known
end

local function chunks_key(topic)
  return P .. 'chunks:' .. topic
end

local function put_chunk(chunk)
  local row, known = next_seq(), topics[chunk.topic]
  local name, events = name_of(row), #chunk.events / 2
  write('HSET', P .. 'events', name, pack({ chunk.first, now, chunk.events }))
  write('ZADD', chunks_key(chunk.topic), chunk.first, name .. ':' .. events .. ':' .. chunk.bytes)
  write('ZADD', P .. 'log', row, name .. string.format('%02d', events) .. chunk.topic)
  known[4] = known[4] + chunk.bytes
  if chunk.keep and (not known[3] or chunk.keep > known[3]) then
    known[3] = chunk.keep
    write('ZADD', P .. 'topic_ends', chunk.keep, chunk.topic)
  end
  changed_topics[chunk.topic] = true
  hinted_topics[chunk.topic] = true
end

-- Appends in order; neighbours of one topic share a chunk. Answers offsets; 0 is a dedup conflict.
local function append_all(events)
  local offsets, open = {}, false
  for at, new in ipairs(events) do
    local topic, kind, data, dedup, keep = new[1], new[2], new[3], new[4], new[5]
    local scope = dedup and 't' .. topic .. '\1' .. dedup[1]
    local code, offset = 0, nil
    if dedup then
      code, offset = seen(scope, dedup[2])
    end
    if code == 2 then
      offset = 0
    end
    if code == 0 then
      local size = #kind + #data
      if open and (open.topic ~= topic or #open.events / 2 >= CHUNK_EVENTS_MAX or open.bytes + size > PAGE_BYTES_MAX) then
        put_chunk(open)
        open = false
      end
      local known = topic_of(topic)
      if not known then
        known = { 1, 0, false, 0 }
        topics[topic] = known
        write('ZADD', P .. 'topic_names', 0, topic)
      end
      known[2] = known[2] + 1
      offset = known[2]
      if dedup then
        remember(scope, dedup, offset, '')
      end
      open = open or { topic = topic, first = offset, events = {}, bytes = 0, keep = false }
      if keep and (not open.keep or keep > open.keep) then
        open.keep = keep
      end
      open.events[#open.events + 1] = kind
      open.events[#open.events + 1] = data
      open.bytes = open.bytes + size
    end
    offsets[at] = offset
  end
  if open then
    put_chunk(open)
  end
  return offsets
end

-- The organisation and kind of a name.
local function room_of(topic)
  return string.match(topic, '^[^%z]*%z.')
end

-- Notes that readers below `row` in this organisation and kind missed something.
local function mark_dropped(topic, row)
  local room = room_of(topic)
  if row > tonumber(call('HGET', P .. 'dropped', room) or 0) then
    write('HSET', P .. 'dropped', room, string.format('%.0f', row))
  end
end

-- Drops up to `limit` of a topic's chunks that end before `first`; answers how many there were.
local function drop_chunks(topic, known, first, limit)
  local range = call('ZRANGEBYSCORE', chunks_key(topic), '-inf', '(' .. string.format('%.0f', first), 'WITHSCORES', 'LIMIT', 0, limit + 1)
  local members, rows, log, highest, ended = {}, {}, {}, 0, 0
  for at = 1, #range, 2 do
    local name, events, bytes = string.match(range[at], '^(%d+):(%d+):(%d+)$')
    local is_over = tonumber(range[at + 1]) + tonumber(events) <= first
    if is_over and ended < limit then
      ended = ended + 1
      members[ended], rows[ended] = range[at], name
      log[ended] = name .. string.format('%02d', tonumber(events)) .. topic
      known[4] = known[4] - tonumber(bytes)
      changed_topics[topic] = true
    end
    -- One that is cut in the middle counts as well: a reader below it missed something.
    if not is_over or ended < limit or at == 2 * ended - 1 then
      highest = math.max(highest, tonumber(name))
    end
  end
  write_many('ZREM', chunks_key(topic), members)
  write_many('ZREM', P .. 'log', log)
  write_many('HDEL', P .. 'events', rows)
  if highest > 0 then
    mark_dropped(topic, highest)
  end
  return ended
end

-- Drops a topic with all it holds, or its first `limit` chunks if it holds more; whether it is gone, and how
-- many chunks went.
local function drop_topic(topic, known, limit)
  local chunks = call('ZCARD', chunks_key(topic))
  if chunks > limit then
    local rest = call('ZRANGE', chunks_key(topic), limit, limit, 'WITHSCORES')
    known[1] = tonumber(rest[2])
    changed_topics[topic] = true
    return false, drop_chunks(topic, known, known[1], limit)
  end
  drop_chunks(topic, known, known[2] + 1, limit)
  topics[topic] = false
  write('HDEL', P .. 'topics', topic)
  write('ZREM', P .. 'topic_names', topic)
  write('ZREM', P .. 'topic_ends', topic)
  write('DEL', P .. 'cursors:' .. topic)
  return true, chunks
end

-- Whether a topic is one of a pattern's: {room, tokens}.
local function is_match(pattern, topic)
  local room, tokens = pattern[1], pattern[2]
  if string.sub(topic, 1, #room) ~= room then
    return false
  end
  local at = 0
  for part in string.gmatch(string.sub(topic, #room + 1) .. '.', '([^.:]*)[.:]') do
    at = at + 1
    local token = tokens[at]
    if token == nil then
      return false
    elseif token == '>' then
      return true
    elseif token ~= '*' and token ~= part then
      return false
    end
  end
  return at == #tokens
end
