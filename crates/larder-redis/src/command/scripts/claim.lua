-- Asks for the right to fill a key.
-- KEYS[1]  D(k), the value        KEYS[2]  L(k), the lease
-- ARGV[1]  token    ARGV[2]  lease in ms    ARGV[3]  SHA-1 of the value that may be replaced, or ''
-- ARGV[4]  size in bytes from which on a value is too large for the reply
-- Replies  {value, ms}  there is a value, which lives for this many ms (-1: without an end)
--          {}           there is a value, too large for the reply
--          OK           the caller holds the lease
--          integer      another process holds the lease, for this many ms
-- Keeps    P3 clean-lease-commits: the reply says what the claim found.
--          P12 tracking-never-assumed, P14 no-wait-for-expiry-push: both keys are read, so that the
--          lane tracks them.
--          P29 large-out-of-band
local value = redis.pcall('GET', KEYS[1])
if type(value) == 'table' and value.err then
  return value
end
if value and (ARGV[3] == '' or redis.sha1hex(value) ~= ARGV[3]) then
  if #value >= tonumber(ARGV[4]) then
    return {}
  end
  return {value, redis.call('PTTL', KEYS[1])}
end
if redis.call('SET', KEYS[2], 'r' .. ARGV[1], 'NX', 'PX', ARGV[2]) then
  return redis.status_reply('OK')
end
local holder, rest = lease(KEYS[2])
if holder then
  return rest
end
redis.call('SET', KEYS[2], 'r' .. ARGV[1], 'PX', ARGV[2])
return redis.status_reply('OK')
