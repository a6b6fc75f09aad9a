-- queue, key, name, nonce. Answers the length, {name, nonce} in flight, {place}, {when the oldest was stored}.
local key = P .. 'lane:' .. ARGV[5] .. '\1' .. ARGV[6]
local first = call('ZRANGE', key, 0, 1)
local in_flight, oldest, place = {}, {}, {}
local known = first[1] and head(first[1])
local waits = known
if known and known[STAGE] == LEASED then
  in_flight = { first[1], known[NONCE] }
  waits = first[2] and head(first[2])
end
if waits then
  oldest = { waits[STORED] }
end
local asked = ARGV[7] ~= '' and head(ARGV[7])
if asked and asked[NONCE] == ARGV[8] then
  local before = call('ZRANK', key, ARGV[7])
  place = before and { before + 1 } or {}
end
return tell({ call('ZCARD', key), in_flight, place, oldest })
