-- How a node takes part in the history that the server holds, and notices one that lost writes (clause X5).
-- ARGV: epoch, writes, run, sequence and token that this node has seen last ('' and 0 for none), the time or '', the
-- server's run. Answers epoch, writes, and 0 for the same history, 1 for a new one, 2 after a loss.
local P = KEYS[1]
local call = redis.call
local meta = call('HMGET', P .. 'meta', 'epoch', 'writes', 'run', 'runs', 'seq', 'token')
local epoch, writes = meta[1], tonumber(meta[2] or 0)
local runs = meta[4] and cmsgpack.unpack(meta[4]) or {}
local seen_epoch, seen_writes, seen_run, run = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[7]
local RUNS_KEPT = 16

if epoch and meta[3] ~= run then
  -- Another process of the server, or another server: what it had when it was first met.
  runs[#runs + 1] = { meta[3], writes }
  if #runs > RUNS_KEPT then
    table.remove(runs, 1)
  end
  call('HSET', P .. 'meta', 'run', run, 'runs', cmsgpack.pack(runs))
end

local is_lost = false
if epoch and seen_epoch ~= '' then
  if seen_epoch == epoch then
    local had = seen_run == run and writes or -1
    for _, former in ipairs(runs) do
      if former[1] == seen_run then
        had = former[2]
      end
    end
    is_lost = had < seen_writes
  else
    -- A later epoch is somebody else's answer to the same loss; an earlier one is a loss.
    is_lost = tonumber(epoch) < tonumber(seen_epoch)
  end
end
if epoch and not is_lost then
  if seen_epoch ~= '' and seen_epoch ~= epoch then
    -- Somebody else answered the loss: what this node saw given out is not given out again either.
    local seq, token = tonumber(meta[5] or 0), tonumber(meta[6] or 0)
    if tonumber(ARGV[4]) > seq or tonumber(ARGV[5]) > token then
      call('HSET', P .. 'meta', 'seq', math.max(seq, tonumber(ARGV[4])), 'token', math.max(token, tonumber(ARGV[5])))
    end
  end
  return { epoch, writes, 0 }
end

local now = tonumber(ARGV[6])
if not now then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end
-- What was given out in the lost part is not given out again.
local SEQUENCE_LEAP = 1048576
local lost_here = seen_epoch ~= ''
local new_epoch = math.max(now, (tonumber(seen_epoch) or 0) + 1, (tonumber(epoch) or 0) + 1)
local seq = math.max(tonumber(meta[5] or 0), tonumber(ARGV[4])) + (lost_here and SEQUENCE_LEAP or 0)
local token = math.max(tonumber(meta[6] or 0), tonumber(ARGV[5]))
writes = math.max(writes, seen_writes) + 1
epoch = string.format('%.0f', new_epoch)
call('HSET', P .. 'meta', 'epoch', epoch, 'writes', writes, 'seq', seq, 'token', token, 'run', run,
  'runs', cmsgpack.pack({}))
return { epoch, writes, lost_here and 2 or 1 }
