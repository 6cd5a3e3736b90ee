-- Reads the tag epoch.
-- KEYS[1]  E, the tag epoch
-- Replies  E
-- Keeps    P22 epoch-before-load: a lost E starts again above every number that it ever was, and so
--          does one that lags by 30 days, because only another program can have set E back. E is
--          read after that, so that the lane tracks it.
local now = redis.call('TIME')
local time = now[1] * 1000000 + now[2]
local epoch = number(KEYS[1])
if not epoch or epoch < time - 2592000000000 then
  redis.call('SET', KEYS[1], string.format('%.0f', time))
end
return redis.call('GET', KEYS[1])
