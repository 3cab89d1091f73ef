-- GCRA (the leaky bucket as a meter) over several keys; none is charged when one refuses.
-- KEYS: marker, then one for each limit. ARGV: marker of the database, now (ms), how long a store that was flushed
-- stays strict (ms), whether a missing marker is no news (1: the database is new as well),
-- then period (ms) and burst for each limit.
local now = tonumber(ARGV[2])
local mark, strict_until = string.match(redis.call('GET', KEYS[1]) or '', '^(%S+) (%d+)$')
if mark ~= ARGV[1] then
  strict_until = (ARGV[4] == '1') and 0 or now + tonumber(ARGV[3])
  redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. string.format('%.0f', strict_until))
end
local strict = now < tonumber(strict_until)
local next_times = {}
local worst = 0
for i = 2, #KEYS do
  local period, burst = tonumber(ARGV[i * 2 + 1]), tonumber(ARGV[i * 2 + 2])
  if strict then
    burst = math.max(1, math.floor(burst / 4))
  end
  local at = tonumber(redis.call('GET', KEYS[i]) or now)
  if at < now then
    at = now
  end
  at = at + period
  worst = math.max(worst, at - period * burst - now)
  next_times[i] = at
end
if worst > 0 then
  return string.format('%.0f', math.ceil(worst))
end
for i = 2, #KEYS do
  redis.call('SET', KEYS[i], string.format('%.0f', next_times[i]), 'PX', string.format('%.0f', math.ceil(next_times[i] - now)))
end
return '0'
