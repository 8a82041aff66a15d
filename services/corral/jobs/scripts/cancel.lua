-- id -> ok | not_found | conflict
local id = ARGV[3]

local state = field(id, 'state')
if not state then
  return not_found()
end
if state == 'QUEUED' then
  redis.call('ZREM', QUEUE, id)
  hush()
  end_job(id, 'CANCELLED', 'cancelled while it waited in the queue')
elseif state == 'PAUSED' then
  end_job(id, 'CANCELLED', 'cancelled while it was paused')
elseif state == 'STARTING' or state == 'RUNNING' or state == 'PAUSING' then
  change_state(id, 'CANCELLING', 'asked to cancel')
elseif state ~= 'CANCELLING' and state ~= 'CANCELLED' then
  return conflict(state)
end
return ok(id)
