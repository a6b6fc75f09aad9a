-- queue, then name and nonce of each. Answers how many of them are done with, and how many of those were dead.
tick()
local done, redriven = 0, 0
for at = 6, #ARGV, 2 do
  local name = ARGV[at]
  local known = notice(name, ARGV[at + 1], ARGV[5])
  if known and known[STAGE] == DEAD then
    if not line_up_key(known[Q], known[KEY]) then
      break
    end
    move_to(name, known, READY)
    known[PLACE], known[ATTEMPT] = next_seq(), 0
    if known[EXPIRES] then
      falls_due('expiring', known[EXPIRES], name)
    end
    join(name, known)
    refresh(name)
    redriven = redriven + 1
  end
  done = done + 1
end
return finish({ done, redriven })
