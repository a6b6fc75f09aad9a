-- topic, subscription, from (epoch:offset, or ''), epoch, offset. Answers 1 if it moved.
local key, from, epoch, offset = P .. 'cursors:' .. ARGV[5], ARGV[7], ARGV[8], ARGV[9]
local known = call('HGET', key, ARGV[6]) or ''
local known_epoch, known_offset = string.match(known, '^(%d+):(%d+)$')
local is_back = known_epoch == epoch and tonumber(offset) < tonumber(known_offset)
if known ~= from or is_back then
  return tell(0)
end
write('HSET', key, ARGV[6], epoch .. ':' .. offset)
return finish(1)
