-- id, attempt, progress and spending as JSON or '', then kind and body as JSON of each event -> ok | fenced
local id, attempt, progress, spending = ARGV[3], ARGV[4], ARGV[5], ARGV[6]

if applied() then
  return ok(id)
end
if not holds(id, attempt) then
  return fenced(id)
end
for i = 7, #ARGV, 2 do
  if ARGV[i] == 'metrics' and field(id, 'state') == 'STARTING' then
    change_state(id, 'RUNNING', 'training')
  end
  append(id, ARGV[i + 1])
end
if progress ~= '' then
  set(id, 'progress', progress)
end
if spending ~= '' then
  set(id, 'spending', spending)
end
remember(id)
return ok(id)
