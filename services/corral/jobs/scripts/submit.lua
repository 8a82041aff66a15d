-- id, idempotency key or '', fingerprint of the request, spec as JSON, data set, metadata as JSON
-- -> ok | conflict
local id, key, fingerprint, spec, dataset = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local metadata = ARGV[8]

local existing = redis.call('EXISTS', job_key(id)) == 1 and id
if key ~= '' then
  existing = redis.call('GET', idempotency_key(key)) or existing
end
if existing then
  if field(existing, 'fingerprint') == fingerprint then
    return ok(existing)
  end
  return conflict(existing)
end

-- Ranks only rise, also when the clock was set back, so that no page of a listing shifts.
local newest = redis.call('ZREVRANGE', JOBS, 0, 0, 'WITHSCORES')[2]
local rank = string.format('%.0f', math.max(now_us, (tonumber(newest) or 0) + 1))

set(id, 'id', id, 'rank', rank, 'spec', spec, 'dataset_id', dataset, 'created_at', now,
  'idempotency_key', key, 'fingerprint', fingerprint, 'attempt', '0', 'strikes', '0',
  'last_event', '0', 'metadata', metadata)
redis.call('ZADD', JOBS, rank, id)
redis.call('SADD', dataset_key(dataset), id)
if key ~= '' then
  redis.call('SET', idempotency_key(key), id)
end
change_state(id, 'QUEUED', 'submitted')
enqueue(id)
return ok(id)
