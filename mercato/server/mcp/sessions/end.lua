-- Ends a session.
--
-- KEYS     record, last numbers of its open streams, streams that have ended, then its other parts
-- ARGV     channel, message, what the keys of streams begin with

local was = redis.call('DEL', KEYS[1])
for _, streams in ipairs({redis.call('HKEYS', KEYS[2]), redis.call('LRANGE', KEYS[3], 0, -1)}) do
  for _, stream in ipairs(streams) do
    redis.call('DEL', ARGV[3] .. stream)
  end
end
redis.call('DEL', unpack(KEYS, 2))
redis.call('PUBLISH', ARGV[1], ARGV[2])
return was
