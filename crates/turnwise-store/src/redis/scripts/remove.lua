-- queue, then {name, nonce, effects} each. Codes: 0 not found, 1 done, 2 leased, 3 dead.
tick()
local answers = {}
for at = 6, #ARGV do
  local item = unpack_one(ARGV[at])
  local known = notice(item[1], item[2], ARGV[5])
  local code = 0
  if known and known[STAGE] == LEASED then
    code = 2
  elseif known and known[STAGE] == DEAD and #item[3] > 0 then
    code = 3
  elseif known then
    forget(item[1], known, 'removed')
    apply(item[3])
    code = 1
  end
  answers[at - 5] = code
end
return finish(answers)
