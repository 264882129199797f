-- Changes a record, if it is still there, and tells the other replicas to forget what they know of it.
--
-- KEYS[1]  record
-- ARGV     channel, message, the most fields, `set` or `remove`, then fields and values, or fields
-- Answers 1, 0 where the session is gone, -1 where the record is full.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
if ARGV[4] == 'remove' then
  redis.call('HDEL', KEYS[1], unpack(ARGV, 5))
elseif redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) and redis.call('HEXISTS', KEYS[1], ARGV[5]) == 0 then
  return -1
else
  redis.call('HSET', KEYS[1], unpack(ARGV, 5))
end
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 1
