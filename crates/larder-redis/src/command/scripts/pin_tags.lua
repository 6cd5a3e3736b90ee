-- Pins tags for an entry.
-- KEYS[1]  E, the tag epoch        KEYS[2…]  T(t) of each tag
-- ARGV[1]  the epoch that the entry's load has read    ARGV[2]  the entry's life in ms
-- ARGV[3]  channel    ARGV[4]  sender
-- Replies  for each tag the epoch at which it is pinned, or nil
-- Keeps    P21 tags-pinned-in-time: T(t) outlives the entry. An E that is no number, or less than a
--          T(t), was written by another program: it grows past each of them, as one that was lost.
--          P23 tags-pinned-before-commit: a tag that is not pinned is pinned only if no tag was
--          invalidated since the load began.
--          P26 scripts-publish
-- Every lane that tracks T(t) reads it again when its life is extended. So T(t) gets twice the life
-- of the entry, and is seldom extended.
local epoch = number(KEYS[1])
local highest = 0
for i = 2, #KEYS do
  local pinned = number(KEYS[i])
  if not pinned and epoch == tonumber(ARGV[1]) then
    redis.call('SET', KEYS[i], ARGV[1], 'PX', string.format('%.0f', 2 * ARGV[2]))
  elseif not pinned then
    redis.call('DEL', KEYS[i])
  elseif redis.call('PTTL', KEYS[i]) < tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[i], string.format('%.0f', 2 * ARGV[2]))
  end
  highest = math.max(highest, pinned or 0)
end
if not epoch or highest > epoch then
  local now = redis.call('TIME')
  epoch = math.max(now[1] * 1000000 + now[2], highest + 1)
  redis.call('SET', KEYS[1], string.format('%.0f', epoch))
  tell(ARGV[3], ARGV[4], KEYS[1])
end
-- Read after the writes, so that the lane tracks them.
local pinned = {}
for i = 2, #KEYS do
  pinned[i - 1] = redis.call('GET', KEYS[i])
end
return pinned
