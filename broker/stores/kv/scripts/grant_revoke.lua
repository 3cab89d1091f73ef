-- KEYS: grant. ARGV: how long at most to remember a dead family (ms). See grant_redeem.lua for the states.
-- What is remembered is the digest of its code, so that the code is still known when it comes again.
local value = redis.call('GET', KEYS[1])
if not value then
  return 0
end
local state, code = string.match(value, '^(%u) (%S+) ')
if state == 'D' then
  redis.call('SET', KEYS[1], value, 'KEEPTTL') -- a write, so that replicas are waited for again
  return 0
end
if state == 'C' then
  return redis.call('DEL', KEYS[1])
end
local ttl = math.min(redis.call('PTTL', KEYS[1]), tonumber(ARGV[1]))
redis.call('SET', KEYS[1], 'D ' .. code .. ' revoked ', 'PX', string.format('%.0f', math.max(ttl, 1)))
return 1
