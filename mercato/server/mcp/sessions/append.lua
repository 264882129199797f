-- Adds messages to a stream, and shows them to whoever writes it to a client elsewhere.
--
-- KEYS     record, stream, last numbers of open streams, waits
-- ARGV     channel, stream's name, the most entries, seconds to keep it, id of a question or nothing, its replica,
--          stamp of the changes that are told with this or nothing, the most entries of HTTP+SSE, bytes from which on
--          an entry is only told of, then the messages
-- Answers the number of the last, or 0 where the session is gone.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[4], ARGV[5], ARGV[6])
  redis.call('EXPIRE', KEYS[4], ARGV[4])
end
if ARGV[7] ~= '' then
  redis.call('HSET', KEYS[1], 'told', ARGV[7])
end
local most = ARGV[3]
if redis.call('HGET', KEYS[1], 'transport') == 'sse' then
  most = ARGV[8]
end
local number
for i = 10, #ARGV do
  number = redis.call('HINCRBY', KEYS[3], ARGV[2], 1)
  redis.call('XADD', KEYS[2], 'MAXLEN', most, '0-' .. number, 'd', ARGV[i])
  if #ARGV[i] > tonumber(ARGV[9]) then
    redis.call('PUBLISH', ARGV[1], 'long ' .. ARGV[2] .. ' -')
  else
    redis.call('PUBLISH', ARGV[1], 'entry ' .. ARGV[2] .. ' ' .. number .. ' 0 - ' .. ARGV[i])
  end
end
redis.call('EXPIRE', KEYS[2], ARGV[4])
redis.call('EXPIRE', KEYS[3], ARGV[4])
return number
