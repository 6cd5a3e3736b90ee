-- Lets a value live on and gives up the lease.
-- KEYS[1]  D(k), the value        KEYS[2]  L(k), the lease
-- ARGV[1]  token    ARGV[2]  SHA-1 of the value    ARGV[3]  time to live in ms
-- ARGV[4]  channel, or ''    ARGV[5]  sender
-- Replies  1 it lives on, 0 refused
-- Keeps    P3 (a held, clean lease, and D as the claim found it), P26.
local holder = redis.call('GET', KEYS[2])
if not holder or string.sub(holder, 2) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[2])
if ARGV[4] ~= '' then
  redis.pcall('PUBLISH', ARGV[4], ARGV[5] .. KEYS[2])
end
if string.sub(holder, 1, 1) == 'd' then
  return 0
end
local found = redis.pcall('GET', KEYS[1])
if type(found) == 'table' and found.err then
  return found
end
if not found or redis.sha1hex(found) ~= ARGV[2] then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if ARGV[4] ~= '' then
  redis.pcall('PUBLISH', ARGV[4], ARGV[5] .. KEYS[1])
end
return 1
