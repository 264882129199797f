-- Enters a session of a tenant, if there is room.
--
-- KEYS[1]  sessions of the tenant, by their last use
-- ARGV     session, now, the most there may be, seconds to keep the list
-- Answers 1, or 0 where there is no room.

if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then
  return 0
end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
