-- The holder's receipt {queue, name, nonce, token} or '', then an event each. Answers their offsets; 0 in place of
-- all of them if the holder's lease is lost.
if ARGV[5] ~= '' then
  tick()
  local receipt = unpack_one(ARGV[5])
  if not holds(notice(receipt[2], receipt[3], receipt[1]), receipt[4]) then
    return finish(0)
  end
end
local events = {}
for at = 6, #ARGV do
  events[at - 5] = unpack_one(ARGV[at])
end
return finish(append_all(events))
