-- Takes one of every window, or nothing of any.
--
-- KEYS     one of each window: a hash of what was taken in each slot, `total` of them all, and `slot`, the last of them
-- ARGV[1]  as JSON: microseconds of a slot; slots of a window; the present in microseconds, where 0 asks this server's
--          clock, which is the same for all replicas; then of each window: the most; 1 if a lease is wanted; slot and
--          number of what is given back of an earlier lease
--
-- Answers {0, microseconds that the slot lasts, then of each window its slot and what is leased},
-- or, where windows were full, {which of them longest, for how many microseconds}.

local LEASE_ABOVE, LEASE_SHARE = 1000, 0.005

local given = cjson.decode(ARGV[1])
local width, slots, now = given[1], given[2], given[3]
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local present = math.floor(now / width)

local function text(number)
  return string.format('%.0f', number)
end

-- In no order.
local function slots_of(key)
  local flat, found = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do
    local slot = tonumber(flat[i])
    if slot then
      found[#found + 1] = {slot, tonumber(flat[i + 1])}
    end
  end
  return found
end

local function give_back(key, slot, number)
  number = math.min(number, tonumber(redis.call('HGET', key, text(slot))) or 0)
  if number > 0 then
    redis.call('HINCRBY', key, text(slot), text(-number))
    redis.call('HINCRBY', key, 'total', text(-number))
  end
end

local function keep(key, slot)
  redis.call('HSET', key, 'slot', text(slot))
  redis.call('PEXPIRE', key, text(math.ceil((slots + 2) * width / 1000)))
end

-- Forgets what has left the window. The slot just outside stays: a part of it may still be within.
local function advance(key)
  local total = 0
  for _, taken in ipairs(slots_of(key)) do
    if taken[1] < present - slots then
      redis.call('HDEL', key, text(taken[1]))
    else
      total = total + taken[2]
    end
  end
  redis.call('HSET', key, 'total', text(total))
  keep(key, present)
  return total
end

-- Returns the slot to count in, what is counted there and in all, and whether this is still to be kept.
local function open(key)
  local seen = redis.call('HMGET', key, 'slot', 'total', text(present))
  local slot, total, here = tonumber(seen[1]), tonumber(seen[2]), tonumber(seen[3])
  if slot == nil then
    return present, 0, 0, true
  elseif slot < present then
    return present, 0, advance(key), false
  elseif slot > present then -- this server's clock was put back: counting goes on where it was
    return slot, tonumber(redis.call('HGET', key, text(slot))) or 0, total, true
  end
  return slot, here or 0, total, false
end

-- How long until so many will have left.
local function wait(key, excess)
  local found = slots_of(key)
  table.sort(found, function(a, b) return a[1] < b[1] end)
  for _, taken in ipairs(found) do
    excess = excess - taken[2]
    if excess <= 0 then
      return math.min((taken[1] + slots + 1) * width - now, (slots + 1) * width)
    end
  end
  return (slots + 1) * width
end

local opened, full, longest = {}, 0, 0
for i, key in ipairs(KEYS) do
  local most, wanted, back_slot, back = unpack(given[3 + i])
  if back > 0 then
    give_back(key, back_slot, back)
  end
  local slot, here, total, fresh = open(key)
  local left, leased = most - total - 1, 0
  if left < 0 then
    local lasts = wait(key, -left)
    if lasts > longest then
      full, longest = i, lasts
    end
  elseif wanted == 1 and left >= LEASE_ABOVE then
    leased = math.floor(left * LEASE_SHARE)
  end
  opened[i] = {slot, here, total, fresh, leased}
end

if full > 0 then
  return {full, longest}
end

local answer = {0, (present + 1) * width - now}
for i, key in ipairs(KEYS) do
  local slot, here, total, fresh, leased = unpack(opened[i])
  if fresh then
    keep(key, slot)
  end
  redis.call('HSET', key, text(slot), text(here + 1 + leased), 'total', text(total + 1 + leased))
  answer[2 * i + 1], answer[2 * i + 2] = slot, leased
end
return answer
