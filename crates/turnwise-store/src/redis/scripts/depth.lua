-- queue. Answers enqueued, acked, removed, expired, the four stages, and when the oldest that waits was stored.
local queue = ARGV[5]
-- What was ever stored is what is held and what has ended.
local kinds = { 'held', 'acked', 'removed', 'expired' }
local answer, enqueued = {}, 0
for at, kind in ipairs(kinds) do
  answer[at] = tonumber(call('HGET', P .. 'counts', queue .. '\1' .. kind) or 0)
  enqueued = enqueued + answer[at]
end
answer[1] = enqueued
for stage = SCHEDULED, DEAD do
  answer[5 + stage] = call('ZCARD', stage_key(stage, queue))
end
-- Numbers grow with time, steps of the clock aside: the first of the stage is the oldest.
local oldest = call('ZRANGE', stage_key(READY, queue), 0, 0)[1]
local known = oldest and head(oldest)
answer[9] = known and { known[STORED] } or {}
return tell(answer)
