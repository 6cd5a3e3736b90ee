-- Asks for the right to fill a key.
-- KEYS[1]  D(k), the value        KEYS[2]  L(k), the lease
-- ARGV[1]  token    ARGV[2]  lease in ms    ARGV[3]  SHA-1 of the value that may be replaced, or ''
-- ARGV[4]  size in bytes from which on a value is too large for the reply
-- ARGV[5]  'GET'    the lane tracks D, also where there is no value yet
--          'GETEX'  it does so only if the script replies with the value
-- Replies  {value, ms}  there is a value, which lives for this many ms (-1: without an end)
--          {}           there is a value, too large for the reply
--          OK           the caller holds the lease
--          integer      another process holds the lease, for this many ms
-- Keeps    P3 clean-lease-commits: the reply says what the claim found.
--          P12 tracking-never-assumed: `PTTL` reads a value that is there, so that the lane tracks
--          it. P14 no-wait-for-expiry-push: so with a lease of another process.
--          P29 large-out-of-band
--          P33 only-kept-is-tracked: `GETEX` is a write for the server, so it is not tracked. A
--          user that may not send it reads with `GET`.
local value = redis.pcall(ARGV[5], KEYS[1])
if type(value) == 'table' and value.err then
  value = redis.pcall('GET', KEYS[1])
end
if type(value) == 'table' and value.err then
  return value
end
if value and (ARGV[3] == '' or redis.sha1hex(value) ~= ARGV[3]) then
  local rest = redis.call('PTTL', KEYS[1])
  if #value >= tonumber(ARGV[4]) then
    return {}
  end
  return {value, rest}
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
