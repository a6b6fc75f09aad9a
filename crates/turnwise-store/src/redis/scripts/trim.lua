-- topic, before this offset. Answers 1 while there is more to drop.
local known = topic_of(ARGV[5])
if not known then
  return tell(0)
end
local first = math.min(math.max(tonumber(ARGV[6]), known[1]), known[2] + 1)
if first ~= known[1] then
  known[1] = first
  changed_topics[ARGV[5]] = true
  dirty = true
end
local dropped = drop_chunks(ARGV[5], known, first, TICK_ITEMS_MAX)
return finish(dropped == TICK_ITEMS_MAX and 1 or 0)
