-- queue, name, nonce. Codes: 0 not found, 1 asked, 2 not leased.
tick()
local known = notice(ARGV[6], ARGV[7], ARGV[5])
local code = 0
if known and known[STAGE] == LEASED then
  known[STOP] = true
  changed[ARGV[6]] = true
  dirty = true
  code = 1
elseif known then
  code = 2
end
return finish(code)
