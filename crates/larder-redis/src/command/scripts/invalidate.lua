-- Invalidates a key.
-- KEYS[1]  D(k), the value        KEYS[2]  L(k), the lease
-- ARGV[1]  token of the caller's own lease, which ends with this, or ''
-- ARGV[2]  channel    ARGV[3]  sender
-- Replies  1
-- Keeps    P5 invalidation-marks-writers: a reader's lease is deleted, another writer's is marked.
--          P6 one-writer-first: a marked lease keeps its time.
--          P26 scripts-publish
--          P33 only-kept-is-tracked: sent untracked.
local holder = lease(KEYS[2])
local token = holder and string.sub(holder, 2)
if not holder or string.sub(holder, 1, 1) == 'r' or token == ARGV[1] then
  redis.call('DEL', KEYS[2])
else
  redis.call('SET', KEYS[2], 'd' .. token, 'KEEPTTL')
end
local found = redis.pcall('STRLEN', KEYS[1])
if type(found) == 'table' and found.err then
  tell(ARGV[2], ARGV[3], KEYS[2])
  return found
end
redis.call('DEL', KEYS[1])
tell(ARGV[2], ARGV[3], KEYS[1], KEYS[2])
return 1
