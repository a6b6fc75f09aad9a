-- pattern, after this topic or '', limit. Answers the last name looked at and whether there is more, then name and
-- record of each.
local pattern, limit = unpack_one(ARGV[5]), tonumber(ARGV[7])
local start = ARGV[6] == '' and '(' .. pattern[1] or '(' .. ARGV[6]
local names = call('ZRANGEBYLEX', P .. 'topic_names', start, '[' .. pattern[1] .. '\255', 'LIMIT', 0, TICK_ITEMS_MAX)
local answer = { '', #names == TICK_ITEMS_MAX and 1 or 0 }
for _, topic in ipairs(names) do
  answer[1] = topic
  if is_match(pattern, topic) then
    answer[#answer + 1] = topic
    answer[#answer + 1] = call('HGET', P .. 'topics', topic)
    if #answer >= 2 + 2 * limit then
      answer[2] = 0
      break
    end
  end
end
return tell(answer)
