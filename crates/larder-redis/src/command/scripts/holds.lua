-- Tells whether a key still has the value that was committed.
-- KEYS[1]  D(k), the value
-- ARGV[1]  SHA-1 of the value
-- Replies  1 it has, 0 it has not
-- Keeps    P4 l1-read-from-l2: the value is read, so that the lane tracks it.
local value = redis.pcall('GET', KEYS[1])
if type(value) == 'string' and redis.sha1hex(value) == ARGV[1] then
  return 1
end
return 0
