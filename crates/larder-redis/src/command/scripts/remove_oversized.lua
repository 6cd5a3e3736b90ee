-- Removes a value that is larger than any that is kept.
-- KEYS[1]  D(k), the value
-- ARGV[1]  the most bytes of a value that is kept    ARGV[2]  channel    ARGV[3]  sender
-- Replies  1 removed, 0 there is none of that size
-- Keeps    P26 scripts-publish
local size = redis.pcall('STRLEN', KEYS[1])
if type(size) ~= 'number' or size <= tonumber(ARGV[1]) then
  return 0
end
redis.call('DEL', KEYS[1])
tell(ARGV[2], ARGV[3], KEYS[1])
return 1
