-- Ends a call that is in flight, once, whoever does it, with the last message of its stream, if it has one.
--
-- KEYS     calls, stream, last numbers of open streams, streams that have ended, record
-- ARGV     request, what it must be still, channel of the session, stream's name, the most entries,
--          seconds to keep the stream, 1 if the stream ends, message or nothing, channel and message for the
--          replicas, what asks for a receipt, the most entries of HTTP+SSE, bytes from which on an entry is only told of
-- Answers the number of the message, 0 without one, -1 where the call was ended by somebody else, or -2 where nothing
-- of the session is there any more; and how many replicas were shown it.

if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  if redis.call('EXISTS', KEYS[5]) == 0 then
    return {-2, 0}
  end
  return {-1, 0}
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[9], ARGV[10])
if ARGV[8] == '' then
  return {0, 0}
end
local number = redis.call('HINCRBY', KEYS[3], ARGV[4], 1)
local most = ARGV[5]
if redis.call('HGET', KEYS[5], 'transport') == 'sse' then
  most = ARGV[12]
end
redis.call('XADD', KEYS[2], 'MAXLEN', most, '0-' .. number, 'd', ARGV[8], 'f', ARGV[7])
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
if #ARGV[8] > tonumber(ARGV[13]) then
  entry = 'long ' .. ARGV[4] .. ' ' .. ARGV[11]
end
return {number, redis.call('PUBLISH', ARGV[3], entry)}
