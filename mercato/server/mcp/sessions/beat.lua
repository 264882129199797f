-- Renews the lease of a replica, and tells all of those whose lease has run out, each once.
--
-- KEYS     lease, replicas by the time of their last beat
-- ARGV     replica, milliseconds of a lease, channel

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], '1', 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], string.format('%.0f', now), ARGV[1])
local late = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now - tonumber(ARGV[2])))
for _, replica in ipairs(late) do
  redis.call('ZREM', KEYS[2], replica)
  redis.call('PUBLISH', ARGV[3], 'lost ' .. replica)
end
return #late
