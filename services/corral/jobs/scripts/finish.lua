-- id, attempt, end state, reason, failure as JSON or '' -> ok | fenced
local id, attempt, state, reason, failure = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]

if applied() then
  return ok(id)
end
if not holds(id, attempt) then
  return fenced(id)
end
end_job(id, state, reason, failure ~= '' and failure or nil)
remember(id)
return ok(id)
