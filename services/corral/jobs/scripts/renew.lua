-- id, attempt, lease in ms -> ok | fenced
local id, attempt, lease_ms = ARGV[3], ARGV[4], tonumber(ARGV[5])

if not holds(id, attempt) then
  return fenced(id)
end
redis.call('ZADD', LEASES, now_ms + lease_ms, id)
return ok(id)
