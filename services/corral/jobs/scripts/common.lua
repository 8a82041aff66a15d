-- Joined in front of every script: the names of keys, the clock, events, and the fence.
-- Every script is called with the namespace of its keys and with the token of the call, then with
-- arguments of its own, and returns a status word followed by what the status carries.
local namespace, token = ARGV[1], ARGV[2]

local QUEUE = namespace .. ':queue' -- sorted set: job ids by rank, oldest first
local LEASES = namespace .. ':leases' -- sorted set: job ids by the lease's end in ms
local JOBS = namespace .. ':jobs' -- sorted set: every job id by rank
local WORKERS = namespace .. ':workers' -- hash: the job that each worker holds
local DOORBELL = namespace .. ':doorbell' -- list: at most one entry per queued job
local APPLIED = namespace .. ':applied:' .. token

local EVENTS_KEPT = 100000
-- Longer than any client goes on trying.
local TOKEN_KEPT_MS = 600000

-- Redis' clock is the only clock: those of the workers may differ.
local clock = redis.call('TIME')
local now = string.format('%d.%06d', clock[1], clock[2])
local now_us = clock[1] * 1000000 + clock[2]
local now_ms = math.floor(now_us / 1000)

local function job_key(id) return namespace .. ':job:' .. id end
local function events_key(id) return namespace .. ':job:' .. id .. ':events' end
local function dataset_key(dataset) return namespace .. ':dataset:' .. dataset end
local function idempotency_key(key) return namespace .. ':idempotency:' .. key end

local function field(id, name) return redis.call('HGET', job_key(id), name) end
local function set(id, ...) redis.call('HSET', job_key(id), ...) end

local function ok(id) return { 'ok', redis.call('HGETALL', job_key(id)) } end
local function not_found() return { 'not_found' } end
local function conflict(state) return { 'conflict', state } end

-- A call whose answer was lost is sent again with the same token, and must not be applied twice.
local function applied() return redis.call('GET', APPLIED) end
local function remember(value) redis.call('SET', APPLIED, value, 'PX', TOKEN_KEPT_MS) end

-- The lease is given back by removing it. One that merely ran out still holds as long as nobody
-- else has claimed the job: the attempt is then still the newest.
local function holds(id, attempt)
  return field(id, 'attempt') == attempt and redis.call('ZSCORE', LEASES, id) ~= false
end
local function fenced(id) return { 'fenced', field(id, 'attempt') or '', field(id, 'worker') or '' } end

local function append(id, body)
  local number = redis.call('HINCRBY', job_key(id), 'last_event', 1)
  redis.call('XADD', events_key(id), 'MAXLEN', '~', EVENTS_KEPT, number .. '-0',
    'time', now, 'attempt', field(id, 'attempt'), 'body', body)
end

local function change_state(id, state, reason, failure)
  set(id, 'state', state)
  append(id, '{"kind":"state","state":"' .. state .. '","reason":' .. cjson.encode(reason)
    .. ',"failure":' .. (failure or 'null') .. '}')
end

-- The job is in nobody's hands.
local function let_go(id)
  local worker = field(id, 'worker')
  if worker then
    redis.call('HDEL', WORKERS, worker)
  end
  redis.call('ZREM', LEASES, id)
  set(id, 'worker', '')
end

local function end_job(id, state, reason, failure)
  let_go(id)
  redis.call('SREM', dataset_key(field(id, 'dataset_id')), id)
  set(id, 'finished_at', now, 'failure', failure or '')
  change_state(id, state, reason, failure)
end

local function ring()
  if redis.call('LLEN', DOORBELL) < redis.call('ZCARD', QUEUE) then
    redis.call('RPUSH', DOORBELL, '1')
  end
end

-- What rings for jobs that are no longer queued would only wake workers for nothing.
local function hush()
  local queued = redis.call('ZCARD', QUEUE)
  if queued == 0 then
    redis.call('DEL', DOORBELL)
  else
    redis.call('LTRIM', DOORBELL, 0, queued - 1)
  end
end

local function enqueue(id)
  redis.call('ZADD', QUEUE, field(id, 'rank'), id)
  ring()
end
