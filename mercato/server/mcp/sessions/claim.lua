-- Takes over the writing of a stream: of several that write the same, the last to claim it goes on.
--
-- KEYS     record, stream, calls, last numbers of open streams
-- ARGV     channel, stream's name, what channels of replicas begin with, message for the replica that runs the call
-- Answers nothing where the session is gone, else token, stamp of the changes that were told, number of the last entry
-- (-1 where the stream is not there).

if redis.call('EXISTS', KEYS[1]) == 0 then
  return {}
end
local token = redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('PUBLISH', ARGV[1], 'claim ' .. ARGV[2] .. ' ' .. token)
local calls = redis.call('HGETALL', KEYS[3])
for i = 2, #calls, 2 do
  local replica, stream = calls[i]:match('^(%S+) (%S+) ')
  if stream == ARGV[2] and stream ~= 'g' then
    redis.call('PUBLISH', ARGV[3] .. replica, ARGV[4])
  end
end
local number = tonumber(redis.call('HGET', KEYS[4], ARGV[2])) or -1
if ARGV[2] ~= 'g' then
  local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
  number = last[1] and tonumber(last[1][1]:match('%-(%d+)$')) or -1
end
return {token, redis.call('HGET', KEYS[1], 'told') or '0', number}
