-- Attempts are counted against several limits at once; none is charged when one refuses.
-- KEYS: 1 marker   2 attack, 3 failures of this minute, 4 of the last one (the marker again: nobody watches)
--       5 solved challenge (the marker again: none came)   then one for each limit.
-- ARGV: 1 marker of the database   2 now (ms)   3 how long a store that was flushed stays strict (ms)
--       4 whether a missing marker is no news (1: the database is new as well)
--       5 failures a minute that are an attack, 0: nobody watches   6 how long it stays one (ms)   7 alarm (0, 1)
--       8 a challenge is demanded: 0 never, 1 when attacked, 2 always   9 nonce   10 how long a solution is kept (ms)
-- then five for each limit: 'L', period (ms), burst, 0, 0   or   'D', first (ms), free, longest (ms), forgotten (ms).
-- Answers "<wait in ms> <attacked> <demanded>".
local now = tonumber(ARGV[2])
local mark, strict_until = string.match(redis.call('GET', KEYS[1]) or '', '^(%S+) (%d+)$')
if mark ~= ARGV[1] then
  strict_until = (ARGV[4] == '1') and 0 or now + tonumber(ARGV[3])
  redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. string.format('%.0f', strict_until))
end
local strict = now < tonumber(strict_until)
local threshold = tonumber(ARGV[5])
local attacked = 0
if threshold > 0 then
  if ARGV[7] == '1' then
    redis.call('SET', KEYS[2], 1, 'PX', ARGV[6])
    attacked = 1
  elseif redis.call('EXISTS', KEYS[2]) == 1 then
    attacked = 1
  end
end
local values, lives = {}, {}
local worst = 0
for i = 6, #KEYS do
  local at = (i - 6) * 5 + 11
  local span, room = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  if strict then
    room = math.max(1, math.floor(room / 4))
  end
  local kept = redis.call('GET', KEYS[i])
  if ARGV[at] == 'L' then -- GCRA, the leaky bucket as a meter: the time at which the bucket is empty
    -- Never fuller than full, also when our clock was set back meanwhile.
    local empty = math.min(math.max(tonumber(kept or now), now), now + span * room) + span
    worst = math.max(worst, empty - span * room - now)
    values[i], lives[i] = string.format('%.0f', empty), empty - now
  else -- "<attempts> <when the next one may come>"
    local made, open = string.match(kept or '0 0', '^(%d+) (%d+)$')
    made, open = tonumber(made) + 1, tonumber(open)
    if open > now + tonumber(ARGV[at + 3]) then
      open = now -- our clock was set back: longer than the longest is no wait of ours
    end
    worst = math.max(worst, open - now)
    local wait = 0
    if made >= room then
      -- 2 ^ 40 of anything is longer than the longest; a greater exponent would be infinite some day.
      wait = math.min(span * 2 ^ math.min(made - room, 40), tonumber(ARGV[at + 3]))
    end
    values[i] = string.format('%.0f %.0f', made, now + wait)
    lives[i] = wait + tonumber(ARGV[at + 4])
  end
end
if worst > 0 then
  return string.format('%.0f %d 0', math.ceil(worst), attacked)
end
-- Counted even when a challenge is demanded: an attack that solves none is one all the same.
if threshold > 0 then
  local failures = redis.call('INCR', KEYS[3])
  if failures == 1 then
    redis.call('PEXPIRE', KEYS[3], 600000)
  end
  failures = failures + math.max(0, tonumber(redis.call('GET', KEYS[4]) or 0)) * (1 - now % 60000 / 60000)
  if failures >= threshold or (attacked == 1 and failures >= threshold / 2) then
    redis.call('SET', KEYS[2], 1, 'PX', ARGV[6])
    attacked = 1
  end
end
if ARGV[8] == '2' or (ARGV[8] == '1' and attacked == 1) then
  if KEYS[5] == KEYS[1] then
    return '0 ' .. attacked .. ' 1'
  end
  -- The same caller again, whose answer was lost, is known by its nonce.
  if not redis.call('SET', KEYS[5], ARGV[9], 'NX', 'PX', ARGV[10]) and redis.call('GET', KEYS[5]) ~= ARGV[9] then
    return '0 ' .. attacked .. ' 1'
  end
end
for i = 6, #KEYS do
  redis.call('SET', KEYS[i], values[i], 'PX', string.format('%.0f', math.max(1, math.ceil(lives[i]))))
end
return '0 ' .. attacked .. ' 0'
