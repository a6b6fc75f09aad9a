-- topic, subscription.
return tell({ call('HGET', P .. 'cursors:' .. ARGV[5], ARGV[6]) or nil })
