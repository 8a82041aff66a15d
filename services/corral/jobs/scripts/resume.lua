-- id -> ok | not_found | conflict
local id = ARGV[3]

local state = field(id, 'state')
if not state then
  return not_found()
end
if state == 'PAUSED' then
  change_state(id, 'QUEUED', 'resumed')
  enqueue(id)
elseif state == 'PAUSING' then
  -- Its worker stops it all the same, and then gives it back to the queue.
  change_state(id, 'STARTING', 'resumed before it had stopped')
elseif state ~= 'QUEUED' and state ~= 'STARTING' and state ~= 'RUNNING' then
  return conflict(state)
end
return ok(id)
