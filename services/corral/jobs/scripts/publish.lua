-- id, attempt, step, checkpoint as JSON, event's body as JSON -> ok | fenced
local id, attempt, step, checkpoint, body = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]

if not holds(id, attempt) then
  return fenced(id)
end
if redis.call('HSETNX', job_key(id), 'checkpoint:' .. step, checkpoint) == 1 then
  set(id, 'strikes', '0')
  append(id, body)
end
return ok(id)
