-- queue, then name and nonce of each. Answers how many were dead.
tick()
local redriven = 0
for at = 6, #ARGV, 2 do
  local name = ARGV[at]
  local known = notice(name, ARGV[at + 1], ARGV[5])
  if known and known[STAGE] == DEAD then
    line_up_key(known[Q], known[KEY], math.huge)
    move_to(name, known, READY)
    known[PLACE], known[ATTEMPT] = next_seq(), 0
    if known[EXPIRES] then
      falls_due('expiring', known[EXPIRES], name)
    end
    join(name, known)
    refresh(name)
    redriven = redriven + 1
  end
end
return finish(redriven)
