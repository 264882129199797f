-- Ends a call that is in flight, once, whoever does it, with the last message of its stream, if it has one.
--
-- KEYS     calls, stream, last numbers of open streams, streams that have ended
-- ARGV     request, what it must be still, channel of the session, stream's name, the most entries,
--          seconds to keep the stream, 1 if the stream ends, message or nothing, channel and message for the
--          replicas, what asks for a receipt
-- Answers the number of the message, 0 without one, or -1 where the call was ended by somebody else; and how many
-- replicas were shown it.

if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return {-1, 0}
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[9], ARGV[10])
if ARGV[8] == '' then
  return {0, 0}
end
local number = redis.call('HINCRBY', KEYS[3], ARGV[4], 1)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], '0-' .. number, 'd', ARGV[8], 'f', ARGV[7])
redis.call('EXPIRE', KEYS[2], ARGV[6])
if ARGV[7] == '1' then
  redis.call('HDEL', KEYS[3], ARGV[4])
  redis.call('LPUSH', KEYS[4], ARGV[4])
  redis.call('LTRIM', KEYS[4], 0, 999)
  redis.call('EXPIRE', KEYS[4], ARGV[6])
else
  redis.call('EXPIRE', KEYS[3], ARGV[6])
end
local entry = 'entry ' .. ARGV[4] .. ' ' .. number .. ' ' .. ARGV[7] .. ' ' .. ARGV[11] .. ' ' .. ARGV[8]
return {number, redis.call('PUBLISH', ARGV[3], entry)}
