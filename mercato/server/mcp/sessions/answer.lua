-- Takes in the answer to a question, once, and tells the replica that waits for it.
--
-- KEYS     waits, replies
-- ARGV     id of the question, answer, seconds to keep it, what channels of replicas begin with, message

local replica = redis.call('HGET', KEYS[1], ARGV[1])
if not replica then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[3])
redis.call('PUBLISH', ARGV[4] .. replica, ARGV[5])
return 1
