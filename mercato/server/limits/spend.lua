-- Spends of a budget, or nothing where it would go over.
--
-- KEYS[1]  what was spent of it
-- ARGV     how much to spend; the most; what is to be added whatever the most is; seconds to keep the count
--
-- Answers {1 where it was spent, all that is spent, this server's clock in seconds}.

local cents, most, owed = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local spent = (tonumber(redis.call('GET', KEYS[1])) or 0) + owed
local goes = spent + cents <= most
if goes then
  spent = spent + cents
end
if owed > 0 or (goes and cents > 0) then
  redis.call('SET', KEYS[1], string.format('%.0f', spent), 'EX', ARGV[4])
end
return {goes and 1 or 0, spent, tonumber(redis.call('TIME')[1])}
