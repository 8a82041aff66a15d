-- id -> ok | not_found | conflict
local id = ARGV[3]

local state = field(id, 'state')
if not state then
  return not_found()
end
if state == 'QUEUED' then
  redis.call('ZREM', QUEUE, id)
  hush()
  change_state(id, 'PAUSED', 'paused while it waited in the queue')
elseif state == 'STARTING' or state == 'RUNNING' then
  change_state(id, 'PAUSING', 'asked to pause')
elseif state ~= 'PAUSING' and state ~= 'PAUSED' then
  return conflict(state)
end
return ok(id)
