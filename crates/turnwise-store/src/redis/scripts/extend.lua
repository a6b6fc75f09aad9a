-- lease, then {queue, name, nonce, token} each. Codes: 0 lost, 1 extended, 2 asked to stop.
local lease = tonumber(ARGV[5])
tick()
local answers = {}
for at = 6, #ARGV do
  local receipt = unpack_one(ARGV[at])
  local name = receipt[2]
  local known = notice(name, receipt[3], receipt[1])
  if holds(known, receipt[4]) then
    known[LEASE] = now + lease
    changed[name] = true
    falls_due('leases', known[LEASE], name)
    answers[at - 5] = { known[STOP] and 2 or 1, known[LEASE] }
  else
    answers[at - 5] = { 0, 0 }
  end
end
return finish(answers)
