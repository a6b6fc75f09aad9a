-- limit. Answers how many things were noticed.
local limit = math.min(tonumber(ARGV[5]), TICK_ITEMS_MAX)
local noticed = notice_due('expiring', limit, expire_if_unleased)
noticed = noticed + notice_due('leases', limit - noticed, lapse)
noticed = noticed + notice_due('due', limit - noticed, come_due)
if now >= next_due then
  look_ahead()
end
noticed = noticed + notice_due('dedup_ends', limit - noticed, function(scope)
  write('HDEL', P .. 'dedup', scope)
end)
local chunks = 0
local old = call('ZRANGEBYSCORE', P .. 'topic_ends', '-inf', now, 'LIMIT', 0, limit - noticed)
for _, topic in ipairs(old) do
  if chunks < TICK_ITEMS_MAX then
    local known = topic_of(topic)
    if known then
      local _, dropped = drop_topic(topic, known, TICK_ITEMS_MAX)
      chunks = chunks + dropped
    else
      write('ZREM', P .. 'topic_ends', topic)
    end
    noticed = noticed + 1
  end
end
return finish(noticed)
