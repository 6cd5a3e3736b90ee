-- Reads the order number of the tags.
-- KEYS[1]  E
-- Replies  E
-- Keeps    P22 epoch-before-load: a lost E is set to what is more than it ever was; it is read, so that the lane tracks it.
local order = redis.call('GET', KEYS[1])
if order then
  return order
end
local now = redis.call('TIME')
redis.call('SET', KEYS[1], string.format('%.0f', now[1] * 1000000 + now[2]))
return redis.call('GET', KEYS[1])
