-- Begins each script that reads names which only a larder writes.
-- text(name, last)  the first bytes of a name, up to the one at `last`; '' where there is none, and
--                   of a value of another type, which no larder has written
-- number(name)      the whole number under a name; nil where there is none, or one that is too
--                   large to be counted on exactly
local function text(name, last)
  local found = redis.pcall('GETRANGE', name, 0, last)
  if type(found) == 'string' then
    return found
  end
  if not string.find(found.err, 'WRONGTYPE', 1, true) then
    redis.call('GETRANGE', name, 0, last) -- raises the refusal
  end
  return ''
end
local function number(name)
  local found = text(name, 16)
  local digits = #found <= 16 and string.match(found, '^%d+$')
  local value = digits and tonumber(digits)
  if value and value <= 9007199254740000 then
    return value
  end
end
