-- A topic each. Answers how many of them are done with, and how many of those there were.
local chunks, there = 0, 0
for at = 5, #ARGV do
  if chunks >= TICK_ITEMS_MAX then
    return finish({ at - 5, there })
  end
  local known = topic_of(ARGV[at])
  if known then
    local is_gone, dropped = drop_topic(ARGV[at], known, TICK_ITEMS_MAX)
    if not is_gone then
      return finish({ at - 5, there })
    end
    chunks, there = chunks + dropped, there + 1
  end
end
return finish({ #ARGV - 4, there })
