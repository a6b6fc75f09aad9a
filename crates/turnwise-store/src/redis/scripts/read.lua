-- topic, from ('earliest', 'latest' or an offset), limit, the epoch of that offset. Answers whether the place is
-- there, first, last, the place, then the chunks.
local known = topic_of(ARGV[5]) or { 1, 0 }
local first, last = known[1], known[2]
local limit, after = tonumber(ARGV[7]), first - 1
if ARGV[6] == 'latest' then
  return tell({ 1, first, last, last })
elseif ARGV[6] ~= 'earliest' then
  after = tonumber(ARGV[6])
  if ARGV[8] ~= ARGV[1] or after < first - 1 or after > last then
    return tell({ 0, first, last, after })
  end
end
local answer = { 1, first, last, after }
local key = chunks_key(ARGV[5])
local start = call('ZREVRANGEBYSCORE', key, after + 1, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
local range = call('ZRANGEBYSCORE', key, start[2] or '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, limit + 1)
local events, bytes = 0, 0
for at = 1, #range, 2 do
  local name, its_events, its_bytes = string.match(range[at], '^(%d+):(%d+):(%d+)$')
  local ends = tonumber(range[at + 1]) + tonumber(its_events)
  if ends > after + 1 then
    -- The reader of this cuts the page to size: here only what surely does not belong to it is left out.
    if events >= limit or bytes > PAGE_BYTES_MAX then
      break
    end
    answer[#answer + 1] = call('HGET', P .. 'events', name)
    events = events + ends - math.max(tonumber(range[at + 1]), after + 1)
    if ends - tonumber(its_events) > after then
      bytes = bytes + tonumber(its_bytes)
    end
  end
end
return tell(answer)
