-- {queue, name, nonce, token, outcome, delay, reason, effects} each. Codes: 0 lost, 1 done.
-- numbers: ACK=0 RETRY=1 RELEASE=2
tick()
local answers = {}
for at = 5, #ARGV do
  local item = unpack_one(ARGV[at])
  local name, outcome = item[2], item[5]
  local known = notice(name, item[3], item[1])
  if holds(known, item[4]) then
    if outcome == ACK then
      forget(name, known, 'acked')
    elseif outcome == RETRY then
      local not_before = now + item[6]
      known[NOT_BEFORE] = not_before > now and not_before
      return_to_place(name, known, item[7])
      known = head(name)
      if known and known[STAGE] == READY and known[NOT_BEFORE] then
        falls_due('due', known[NOT_BEFORE], name)
      end
    elseif outcome == RELEASE then
      known[ATTEMPT] = math.max(known[ATTEMPT] - 1, 0)
      return_to_place(name, known, nil)
    else
      bury(name, known, item[7])
    end
    apply(item[8])
    answers[at - 4] = 1
  else
    answers[at - 4] = 0
  end
end
return finish(answers)
