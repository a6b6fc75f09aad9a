-- Whether something small could be stored: a command that would be refused without room, and changes nothing.
call('ZADD', P .. 'queues', 'XX', 0, '')
return tell(1)
