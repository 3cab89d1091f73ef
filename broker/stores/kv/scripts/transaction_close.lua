-- KEYS: transaction. ARGV: nonce, tombstone, ttl (ms).
local value = redis.call('GET', KEYS[1])
if not value then
  return 0
end
local version, nonce = string.match(value, '^(%S+) (%S+) ')
if version == 'F' and nonce ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
