-- queue, stage, after this number, limit, bytes after which no more are listed. Answers name, record and body of each.
local names = call('ZRANGEBYSCORE', stage_key(ARGV[6], ARGV[5]), '(' .. ARGV[7], '+inf', 'LIMIT', 0, ARGV[8])
local found, bytes = {}, 0
for _, name in ipairs(names) do
  local raw = call('HMGET', MESSAGES, name, 'b' .. name)
  local to = #found
  found[to + 1], found[to + 2], found[to + 3] = name, raw[1], raw[2]
  bytes = bytes + #raw[2]
  if bytes > tonumber(ARGV[9]) then
    break
  end
end
return tell(found)
