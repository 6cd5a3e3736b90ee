-- Reads the tag epoch.
-- KEYS[1]  E, the tag epoch
-- Replies  E
-- Keeps    P22 epoch-before-load: a lost E starts again above every number that it ever was. E is
--          read after that, so that the lane tracks it.
local epoch = redis.call('GET', KEYS[1])
if epoch then
  return epoch
end
local now = redis.call('TIME')
redis.call('SET', KEYS[1], string.format('%.0f', now[1] * 1000000 + now[2]))
return redis.call('GET', KEYS[1])
