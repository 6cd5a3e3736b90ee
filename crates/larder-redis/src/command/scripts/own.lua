-- Begins each script that reads names which only a larder writes.
-- text(name, last)  the first bytes of a name, up to the one at `last`; '' where there is none, and
--                   of a value of another type, which no larder has written
-- number(name)      the whole number under a name; nil where there is none, or one that is too
--                   large to be counted on exactly
-- Keeps    P33 only-kept-is-tracked: `GETEX` is a write for the server, so it is not tracked. A
--          user that may not send it reads with `GETRANGE`.
local function text(name, last)
  local found = redis.pcall('GETEX', name)
  if type(found) == 'table' and not string.find(found.err, 'WRONGTYPE', 1, true) then
    found = redis.pcall('GETRANGE', name, 0, last)
  end
  if not found then
    return ''
  end
  if type(found) == 'string' then
    return string.sub(found, 1, last + 1)
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
