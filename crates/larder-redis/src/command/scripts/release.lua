-- Gives up a lease without storing anything.
-- KEYS[1]  L(k), the lease
-- ARGV[1]  token    ARGV[2]  channel    ARGV[3]  sender
-- Replies  1 the lease was held and unmarked, 0 it was lost or marked
-- Keeps    P3 clean-lease-commits: only the owner gives a lease up.
--          P26 scripts-publish
local holder = text(KEYS[1], 33)
if string.sub(holder, 2) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
tell(ARGV[2], ARGV[3], KEYS[1])
if string.sub(holder, 1, 1) == 'd' then
  return 0
end
return 1
