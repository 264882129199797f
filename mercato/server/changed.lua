-- Tells of a change, and notes when it was for those who were not there.
--
-- KEYS[1]  the stamp of what changed
-- ARGV     channel, message, for how many seconds the stamp is kept

local time = redis.call('TIME')
redis.call('SET', KEYS[1], string.format('%.0f', time[1] * 1000000 + time[2]), 'EX', ARGV[3])
return redis.call('PUBLISH', ARGV[1], ARGV[2])
