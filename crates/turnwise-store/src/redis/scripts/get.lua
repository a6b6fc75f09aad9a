-- queue, bytes after which no more are looked at, then name and nonce of each. Answers how many it looked at, then name,
-- record and body of those that are there.
local found, done, bytes = { 0 }, 0, 0
for at = 7, #ARGV, 2 do
  if bytes > tonumber(ARGV[6]) then
    break
  end
  done = done + 1
  local raw = call('HMGET', MESSAGES, ARGV[at], 'b' .. ARGV[at])
  if raw[1] and raw[2] then
    local known = unpack_one(raw[1])
    if known[NONCE] == ARGV[at + 1] and known[Q] == ARGV[5] then
      local to = #found
      found[to + 1], found[to + 2], found[to + 3] = ARGV[at], raw[1], raw[2]
      bytes = bytes + #raw[2]
    end
  end
end
found[1] = done
return tell(found)
