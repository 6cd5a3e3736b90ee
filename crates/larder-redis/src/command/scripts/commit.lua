-- Stores a value, or prolongs the life of the one that is there, and gives up the lease.
-- KEYS[1]  D(k), the value        KEYS[2]  L(k), the lease
-- ARGV[1]  token    ARGV[2]  value    ARGV[3]  time to live in ms
-- ARGV[4]  SHA-1 of the value to replace, or ''
-- ARGV[5]  'exact'  that value must be there, or none if ARGV[4] is ''
--          'ended'  that value may be gone, because its time has ended since the caller saw it
--          'touch'  that value is to live on for ARGV[3], or to go if that is 0; ARGV[2] is ''
-- ARGV[6]  channel    ARGV[7]  sender
-- Replies  1 stored or living on, by a load; 2 by a writer; 0 refused
-- Keeps    P3 clean-lease-commits: the lease is held and clean, and D is as the claim found it.
--          P4 l1-read-from-l2: D is read before it is written, so that the lane is told of the
--          write once, and after it, so that the lane is told of what comes next.
--          P26 scripts-publish
--          P33 only-kept-is-tracked: L is deleted after the last read, because some servers track
--          all KEYS once a script has read one of them. A value that is gone is not read.
local holder = text(KEYS[2], 33)
if string.sub(holder, 2) ~= ARGV[1] then
  return 0
end
local kind = string.sub(holder, 1, 1)
local function gives_up(reply)
  redis.call('DEL', KEYS[2])
  tell(ARGV[6], ARGV[7], KEYS[2])
  return reply
end
if kind == 'd' then
  return gives_up(0)
end
local found = redis.pcall('GET', KEYS[1])
if type(found) == 'table' and found.err then
  return gives_up(found)
end
local is_gone = not found and ARGV[5] == 'ended'
if not is_gone and (found and redis.sha1hex(found) or '') ~= ARGV[4] then
  return gives_up(0)
end
if ARGV[5] == 'touch' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
if ARGV[3] ~= '0' then
  redis.call('EXISTS', KEYS[1])
end
tell(ARGV[6], ARGV[7], KEYS[1])
return gives_up(kind == 'w' and 2 or 1)
