-- Pins tags for an entry.
-- KEYS[1]  E, the tag epoch        KEYS[2…]  T(t) of each tag
-- ARGV[1]  the epoch that the entry's load has read    ARGV[2]  the entry's life in ms
-- Replies  for each tag the epoch at which it is pinned, or nil
-- Keeps    P21 tags-pinned-in-time: T(t) outlives the entry.
--          P23 tags-pinned-before-commit: a tag that is not pinned is pinned only if no tag was
--          invalidated since the load began.
-- Every lane that tracks T(t) reads it again when its life is extended. So T(t) gets twice the life
-- of the entry, and is seldom extended.
local epoch = redis.call('GET', KEYS[1])
local pinned = {}
for i = 2, #KEYS do
  local number = redis.call('GET', KEYS[i])
  if not number and epoch == ARGV[1] then
    redis.call('SET', KEYS[i], ARGV[1], 'PX', string.format('%.0f', 2 * ARGV[2]))
  elseif number and redis.call('PTTL', KEYS[i]) < tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[i], string.format('%.0f', 2 * ARGV[2]))
  end
  -- Read after the write, so that the lane tracks it.
  pinned[i - 1] = redis.call('GET', KEYS[i])
end
return pinned
