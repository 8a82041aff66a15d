-- upper bound of the rank, jobs to look at -> ok, bound to go on from or '', states and their counts
local bound, scan = ARGV[3], tonumber(ARGV[4])

local entries = redis.call('ZREVRANGEBYSCORE', JOBS, bound, '-inf', 'WITHSCORES', 'LIMIT', 0, scan)
local counts = {}
for i = 1, #entries, 2 do
  local state = field(entries[i], 'state')
  counts[state] = (counts[state] or 0) + 1
end
local found = {}
for state, count in pairs(counts) do
  found[#found + 1] = state
  found[#found + 1] = tostring(count)
end
return { 'ok', #entries < 2 * scan and '' or '(' .. entries[#entries], found }
