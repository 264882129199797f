-- Begins a session.
--
-- KEYS[1]  record
-- ARGV     seconds that it may be idle, then fields and values

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
redis.call('HSET', KEYS[1], 'created', now, 'seen', now, 'told', now, unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], ARGV[1])
return now
