-- Ends a session.
--
-- KEYS     record, set of its streams, then its other parts
-- ARGV     channel, message, what the keys of streams begin with

local was = redis.call('DEL', KEYS[1])
for _, stream in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  redis.call('DEL', ARGV[3] .. stream)
end
redis.call('DEL', unpack(KEYS, 2))
redis.call('PUBLISH', ARGV[1], ARGV[2])
return was
