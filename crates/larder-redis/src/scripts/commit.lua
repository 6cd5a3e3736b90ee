-- Stores a value, or lets the one that is there live on, and gives up the lease.
-- KEYS[1]  D(k), the value        KEYS[2]  L(k), the lease
-- ARGV[1]  token    ARGV[2]  value    ARGV[3]  time to live in ms    ARGV[4]  SHA-1 of the value to replace, or ''
-- ARGV[5]  'exact'  that value, or none if it is '', is there
--          'ended'  it may be gone, because its time has ended since it was seen
--          'touch'  it is to live on, or to be removed if ARGV[3] is 0, and ARGV[2] does not matter
-- ARGV[6]  channel, or ''    ARGV[7]  sender
-- Replies  1 stored or living on, 0 refused
-- Keeps    P3 clean-lease-commits (a held, clean lease, and D as the claim found it), P26 scripts-publish, and P4 l1-read-from-l2: D is read before it is written, so that
--          the lane is told of that once, and after it, so that the lane is told of what comes next.
local holder = redis.call('GET', KEYS[2])
if not holder or string.sub(holder, 2) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[2])
if ARGV[6] ~= '' then
  redis.pcall('PUBLISH', ARGV[6], ARGV[7] .. KEYS[2])
end
if string.sub(holder, 1, 1) == 'd' then
  return 0
end
local found = redis.pcall('GET', KEYS[1])
if type(found) == 'table' and found.err then
  return found
end
local is_gone = not found and ARGV[5] == 'ended'
if not is_gone and (found and redis.sha1hex(found) or '') ~= ARGV[4] then
  return 0
end
if ARGV[5] == 'touch' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
redis.call('EXISTS', KEYS[1])
if ARGV[6] ~= '' then
  redis.pcall('PUBLISH', ARGV[6], ARGV[7] .. KEYS[1])
end
return 1
