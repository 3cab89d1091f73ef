-- KEYS: counter. ARGV: ttl (ms), which starts with the first.
local sum = redis.call('INCR', KEYS[1])
if sum == 1 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return sum
