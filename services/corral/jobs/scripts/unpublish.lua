-- id, attempt, then the steps -> ok | fenced
local id, attempt = ARGV[3], ARGV[4]

if not holds(id, attempt) then
  return fenced(id)
end
for i = 5, #ARGV do
  redis.call('HDEL', job_key(id), 'checkpoint:' .. ARGV[i])
end
return ok(id)
