-- Reads a key, and has the lane track it only if there is a value.
-- KEYS[1]  D(k), the value
-- ARGV[1]  the most bytes of the value that are wanted
-- Replies  {value, ms, size}  the first bytes of the value, which lives for this many ms (-1:
--                             without an end), and its size in bytes
--          nil                there is no value
-- Keeps    P12 tracking-never-assumed: `PTTL` reads a value that is there, so that the lane tracks
--          it.
--          P33 only-kept-is-tracked: `GETEX` is a write for the server, so it is not tracked. A
--          user that may not send it reads with `GET`.
local value = redis.pcall('GETEX', KEYS[1])
if type(value) == 'table' and value.err then
  value = redis.pcall('GET', KEYS[1])
end
if type(value) ~= 'string' then
  return value
end
return {string.sub(value, 1, ARGV[1]), redis.call('PTTL', KEYS[1]), #value}
