-- queue, stage, after this number, limit, bytes after which no more are listed. Answers how many it looked at, the last
-- of them, then name, record and body of each.
local names = call('ZRANGEBYSCORE', stage_key(ARGV[6], ARGV[5]), '(' .. ARGV[7], '+inf', 'LIMIT', 0, ARGV[8])
local found, done, bytes = { 0, '' }, 0, 0
for _, name in ipairs(names) do
  local raw = call('HMGET', MESSAGES, name, 'b' .. name)
  done = done + 1
  found[2] = name
  if raw[1] and raw[2] then
    local to = #found
    found[to + 1], found[to + 2], found[to + 3] = name, raw[1], raw[2]
    bytes = bytes + #raw[2]
  end
  if bytes > tonumber(ARGV[9]) then
    -- As if there were more: the next step tells.
    done = tonumber(ARGV[8])
    break
  end
end
found[1] = done
return tell(found)
