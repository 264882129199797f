-- Notes that a session is used.
--
-- KEYS     record, then what else lives as long
-- ARGV[1]  seconds that it may be idle
-- Answers 0 where the session is gone.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'seen', string.format('%.0f', time[1] * 1000000 + time[2]))
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, ARGV[1])
end
return 1
