-- Invalidates a tag.
-- KEYS[1]  E, the tag epoch        KEYS[2]  T(t)
-- ARGV[1]  channel    ARGV[2]  sender
-- Replies  1
-- Keeps    P21 tags-pinned-in-time: E grows past every number that a load has read,
--          and T(t) is gone.
--          P26 scripts-publish
local now = redis.call('TIME')
local epoch = now[1] * 1000000 + now[2]
local last = number(KEYS[1])
if last and last >= epoch then
  epoch = last + 1
end
redis.call('SET', KEYS[1], string.format('%.0f', epoch))
redis.call('DEL', KEYS[2])
tell(ARGV[1], ARGV[2], KEYS[1], KEYS[2])
return 1
