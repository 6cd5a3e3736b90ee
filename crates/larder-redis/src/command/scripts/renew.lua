-- Extends a lease.
-- KEYS[1]  L(k), the lease
-- ARGV[1]  token    ARGV[2]  lease in ms
-- Replies  1 held, 0 lost
-- Keeps    P6 one-writer-first: a marked writer's lease is extended too.
if string.sub(text(KEYS[1], 33), 2) == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end
return 0
