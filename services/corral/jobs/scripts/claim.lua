-- worker, lease in ms -> ok | none
local worker, lease_ms = ARGV[3], tonumber(ARGV[4])

local before = applied()
if before then
  local id, attempt = string.match(before, '^(%S+) (%d+)$')
  if holds(id, attempt) then
    return ok(id)
  end
end

local reason = 'claimed by ' .. worker
-- A worker that claims again has died with the job that it holds, and come back.
local held = redis.call('HGET', WORKERS, worker)
local id = held or redis.call('ZRANGEBYSCORE', LEASES, '-inf', now_ms, 'LIMIT', 0, 1)[1]
if held then
  reason = 'claimed again by ' .. worker
elseif id then
  reason = 'the lease of ' .. field(id, 'worker') .. ' ran out; ' .. reason
else
  id = redis.call('ZRANGE', QUEUE, 0, 0)[1]
  if not id then
    hush()
    return { 'none' }
  end
  redis.call('ZREM', QUEUE, id)
  hush()
end

let_go(id)
local attempt = redis.call('HINCRBY', job_key(id), 'attempt', 1)
redis.call('ZADD', LEASES, now_ms + lease_ms, id)
redis.call('HSETNX', job_key(id), 'started_at', now)
redis.call('HSET', WORKERS, worker, id)
set(id, 'worker', worker)
local state = field(id, 'state')
if state ~= 'CANCELLING' and state ~= 'PAUSING' then
  change_state(id, 'STARTING', reason)
end
remember(id .. ' ' .. attempt)
return ok(id)
