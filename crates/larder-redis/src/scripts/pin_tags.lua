-- Holds tags for an entry.
-- KEYS[1]  E        KEYS[2…]  T(t) of each tag
-- ARGV[1]  the entry's order number    ARGV[2]  its life in ms
-- Replies  for each tag the number under which it is held, or nil
-- Keeps    P23 tags-pinned-before-commit: a tag that nobody holds is held only if no tag was invalidated since. P21 tags-pinned-in-time: T(t) outlives the entry.
-- To extend T(t) makes all who track it ask again, so it gets twice the life, and is seldom extended.
local order = redis.call('GET', KEYS[1])
local held = {}
for i = 2, #KEYS do
  local number = redis.call('GET', KEYS[i])
  if not number and order == ARGV[1] then
    redis.call('SET', KEYS[i], ARGV[1], 'PX', string.format('%.0f', 2 * ARGV[2]))
  elseif number and redis.call('PTTL', KEYS[i]) < tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[i], string.format('%.0f', 2 * ARGV[2]))
  end
  -- Read after the write, so that the lane tracks it.
  held[i - 1] = redis.call('GET', KEYS[i])
end
return held
