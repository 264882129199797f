-- Makes a call known to all replicas: that it is in flight, where, and on which stream it is answered.
--
-- KEYS     record, calls, cancellation that came early, stream, last numbers of open streams
-- ARGV     request, replica, stream's name or -, what another call of this id may be (it is lost), seconds to keep it,
--          1 to prime the stream, channel and message for the other replicas, number of the call in its replica
-- Answers `ok`, `ended`, `cancelled`, or what another call of the same id is.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return 'ended'
end
local mine = ARGV[2] .. ' '
local other = redis.call('HGET', KEYS[2], ARGV[1])
if other and other:sub(1, #mine) ~= mine and other ~= ARGV[4] then
  return other
end
if redis.call('DEL', KEYS[3]) == 1 then
  return 'cancelled'
end
redis.call('HSET', KEYS[2], ARGV[1], mine .. ARGV[3] .. ' ' .. ARGV[9])
redis.call('EXPIRE', KEYS[2], ARGV[5])
if ARGV[6] == '1' then
  redis.call('XADD', KEYS[4], '0-' .. redis.call('HINCRBY', KEYS[5], ARGV[3], 1), 'd', '')
  redis.call('EXPIRE', KEYS[4], ARGV[5])
  redis.call('EXPIRE', KEYS[5], ARGV[5])
end
if not other then
  redis.call('PUBLISH', ARGV[7], ARGV[8])
end
return 'ok'
