-- Answers {the next time after now at which something falls due}, and the queues where something is due.
local at, queues = {}, {}
for _, index in ipairs({ 'expiring', 'leases', 'due' }) do
  for _, name in ipairs(call('ZRANGEBYSCORE', P .. index, '-inf', now, 'LIMIT', 0, 100)) do
    local known = head(name)
    if known then
      queues[known[Q]] = true
    end
  end
  local later = call('ZRANGEBYSCORE', P .. index, '(' .. string.format('%.0f', now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  if later and (not at[1] or tonumber(later) < at[1]) then
    at[1] = tonumber(later)
  end
end
return tell({ at, keys_of(queues) })
