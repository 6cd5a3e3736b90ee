-- Begins each script that changes what other processes may have read.
-- tell(channel, sender, names…)  publishes that these names were changed; nothing if the channel
--                                is ''
-- Keeps    P26 scripts-publish: in the atomic step of the change.
local function tell(channel, sender, ...)
  if channel ~= '' then
    for _, name in ipairs({...}) do
      redis.pcall('PUBLISH', channel, sender .. name)
    end
  end
end
