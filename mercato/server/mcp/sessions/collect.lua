-- Hands over the answer to a question, once.
--
-- KEYS[1]  replies
-- ARGV[1]  id of the question

local reply = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
return reply
