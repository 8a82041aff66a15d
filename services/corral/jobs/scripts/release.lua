-- id, attempt, reason, strikes to add -> ok | fenced
local id, attempt, reason, strikes = ARGV[3], ARGV[4], ARGV[5], ARGV[6]

if applied() then
  return ok(id)
end
if not holds(id, attempt) then
  return fenced(id)
end
redis.call('HINCRBY', job_key(id), 'strikes', strikes)
local state = field(id, 'state')
if state == 'CANCELLING' then
  end_job(id, 'CANCELLED', reason)
elseif state == 'PAUSING' then
  let_go(id)
  change_state(id, 'PAUSED', reason)
else
  let_go(id)
  change_state(id, 'QUEUED', reason)
  -- Its rank is older than that of every job that was never claimed: this is the queue's front.
  enqueue(id)
end
remember(id)
return ok(id)
