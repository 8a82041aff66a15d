-- id, attempt, handle -> ok | fenced
local id, attempt, handle = ARGV[3], ARGV[4], ARGV[5]

if not holds(id, attempt) then
  return fenced(id)
end
set(id, 'handle', handle)
return ok(id)
