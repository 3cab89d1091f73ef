-- KEYS: value, memory of the last taker. ARGV: nonce, how long the memory lasts (ms).
-- The same caller asking again (its answer was lost) gets the same value; nobody else does.
local nonce = redis.call('HGET', KEYS[2], 'nonce')
if nonce == ARGV[1] then
  redis.call('PEXPIRE', KEYS[2], ARGV[2]) -- a write, so that replicas are waited for again
  return redis.call('HGET', KEYS[2], 'value')
end
local value = redis.call('GET', KEYS[1])
if not value then
  return false
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[2], 'nonce', ARGV[1], 'value', value)
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return value
