-- queue, then name and nonce of each. Answers name, record and body of those that are there.
local found = {}
for at = 6, #ARGV, 2 do
  local raw = call('HMGET', MESSAGES, ARGV[at], 'b' .. ARGV[at])
  if raw[1] then
    local known = unpack_one(raw[1])
    if known[NONCE] == ARGV[at + 1] and known[Q] == ARGV[5] then
      local to = #found
      found[to + 1], found[to + 2], found[to + 3] = ARGV[at], raw[1], raw[2]
    end
  end
end
return tell(found)
