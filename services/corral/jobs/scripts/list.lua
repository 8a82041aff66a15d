-- upper bound of the rank, jobs wanted, states as ',A,B,' or '', jobs to look at
-- -> ok, bound to go on from or '', jobs
local bound, wanted, states, scan = ARGV[3], tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])

local entries = redis.call('ZREVRANGEBYSCORE', JOBS, bound, '-inf', 'WITHSCORES', 'LIMIT', 0, scan)
local found, next_bound = {}, ''
for i = 1, #entries, 2 do
  local id = entries[i]
  next_bound = '(' .. entries[i + 1]
  if states == '' or string.find(states, ',' .. field(id, 'state') .. ',', 1, true) then
    found[#found + 1] = redis.call('HGETALL', job_key(id))
    if #found == wanted then
      break
    end
  end
end
if #found < wanted and #entries < 2 * scan then
  next_bound = ''
end
return { 'ok', next_bound, found }
