-- after this one, or ''; limit.
local start = ARGV[5] == '' and '-' or '(' .. ARGV[5]
return tell(call('ZRANGEBYLEX', P .. 'queues', start, '+', 'LIMIT', 0, ARGV[6]))
