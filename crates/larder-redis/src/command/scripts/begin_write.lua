-- Asks for the right to write behind a key.
-- KEYS[1]  D(k), the value        KEYS[2]  L(k), the lease
-- ARGV[1]  token    ARGV[2]  lease in ms    ARGV[3]  channel    ARGV[4]  sender
-- Replies  OK       the caller holds the lease; a reader's lease is broken and the value is gone
--          integer  another writer holds the lease, for this many ms
-- Keeps    P6 one-writer-first: a writer's lease stands, also a marked one.
--          P14 no-wait-for-expiry-push: a lease that stands is read, so that the lane tracks it.
--          P26 scripts-publish
--          P33 only-kept-is-tracked: sent untracked at first, and again tracked if the reply is
--          busy.
local holder, rest = lease(KEYS[2])
if holder and string.sub(holder, 1, 1) ~= 'r' then
  return rest
end
local found = redis.pcall('STRLEN', KEYS[1])
if type(found) == 'table' and found.err then
  return found
end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], 'w' .. ARGV[1], 'PX', ARGV[2])
tell(ARGV[3], ARGV[4], KEYS[1], KEYS[2])
return redis.status_reply('OK')
