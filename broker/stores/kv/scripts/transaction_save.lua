-- KEYS: transaction. ARGV: version that was read, nonce, new value, ttl (ms).
-- A value is "<version or F> <nonce of its writer> <content>"; F: finished, for ever.
local value = redis.call('GET', KEYS[1])
if not value then
  return 0
end
local version, nonce = string.match(value, '^(%S+) (%S+) ')
if nonce == ARGV[2] then
  redis.call('PEXPIRE', KEYS[1], ARGV[4]) -- a write, so that replicas are waited for again
  return 1
end
if version ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
return 1
