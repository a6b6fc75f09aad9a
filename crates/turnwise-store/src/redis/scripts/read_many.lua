-- after this row, its epoch, limit, then a pattern each. Answers whether some were missed, where to read on, whether there is
-- more, then topic, first offset, chunk and row of each.
local after, limit = tonumber(ARGV[5]), tonumber(ARGV[7])
local patterns, missed = {}, 0
if ARGV[6] ~= ARGV[1] then
  missed = after > 0 and 1 or 0
  after = 0
end
for at = 8, #ARGV do
  local pattern = unpack_one(ARGV[at])
  patterns[at - 7] = pattern
  if after > 0 and tonumber(call('HGET', P .. 'dropped', pattern[1]) or 0) > after then
    missed = 1
  end
end
local range = call('ZRANGEBYSCORE', P .. 'log', '(' .. string.format('%.0f', after), '+inf', 'LIMIT', 0, TICK_ITEMS_MAX)
local answer, next_row, events, bytes = { missed, 0, 0 }, after, 0, 0
local is_over = false
for _, member in ipairs(range) do
  local name, topic = string.sub(member, 1, 16), string.sub(member, 19)
  local is_wanted = false
  for _, pattern in ipairs(patterns) do
    is_wanted = is_wanted or is_match(pattern, topic)
  end
  local chunk = is_wanted and call('HGET', P .. 'events', name)
  if chunk then
    local known = topic_of(topic)
    bytes = bytes + #chunk
    if events > 0 and bytes > PAGE_BYTES_MAX then
      is_over = true
      break
    end
    local to = #answer
    answer[to + 1], answer[to + 2], answer[to + 3] = topic, known and known[1] or 1, chunk
    answer[to + 4] = tonumber(name)
    events = events + tonumber(string.sub(member, 17, 18))
  end
  next_row = tonumber(name)
  if events >= limit then
    is_over = true
    break
  end
end
answer[2], answer[3] = next_row, not is_over and #range == TICK_ITEMS_MAX and 1 or 0
return tell(answer)
