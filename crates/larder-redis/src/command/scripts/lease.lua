-- Begins each script that judges a lease, after own.lua.
-- lease(name)  the text of a lease and the rest of its life in ms; nil where there is none, or none
--              that a larder can have taken: of another type or form, without an end, or longer
--              than any lease. Such a name is free to be taken.
-- Keeps    P14 no-wait-for-expiry-push: `PTTL` reads a lease that is there, so that the lane tracks
--          it.
local function lease(name)
  local holder = text(name, 33)
  if #holder ~= 33 or not string.find(holder, '^[rwd]') then
    return nil
  end
  local rest = redis.call('PTTL', name)
  if rest >= 0 and rest <= 86400000 then
    return holder, rest
  end
end
