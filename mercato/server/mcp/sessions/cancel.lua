-- Passes a cancellation to the replica that runs the call, or keeps it for a moment: it may have come first.
--
-- KEYS     calls, cancellation
-- ARGV     request, what channels of replicas begin with, message, milliseconds to keep it

local held = redis.call('HGET', KEYS[1], ARGV[1])
if held then
  redis.call('PUBLISH', ARGV[2] .. held:match('^(%S+)'), ARGV[3])
  return 1
end
redis.call('SET', KEYS[2], '1', 'PX', ARGV[4])
return 0
