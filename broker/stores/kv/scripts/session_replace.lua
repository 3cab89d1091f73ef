-- KEYS: session. ARGV: digest of the secret that was current, new value, ttl (ms), digest of the new secret,
-- which may be the old one.
-- A session is "<digest of its secret> <content>".
local value = redis.call('GET', KEYS[1])
if not value then
  return 0
end
local digest = string.match(value, '^(%S+) ')
if digest ~= ARGV[1] then
  if digest ~= ARGV[4] then
    return 0
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[3]) -- a write, so that replicas are waited for again
  return 1
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
