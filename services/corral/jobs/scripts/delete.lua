-- id -> ok | not_found | conflict
local id = ARGV[3]

if applied() then
  return { 'ok', {} }
end
local state = field(id, 'state')
if not state then
  return not_found()
end
if state ~= 'SUCCEEDED' and state ~= 'FAILED' and state ~= 'CANCELLED' then
  return conflict(state)
end
local key = field(id, 'idempotency_key')
if key ~= '' then
  redis.call('DEL', idempotency_key(key))
end
redis.call('ZREM', JOBS, id)
redis.call('DEL', job_key(id), events_key(id))
remember(id)
return { 'ok', {} }
