-- KEYS: grant. ARGV: digest of the token that is presented, digest of its successor,
-- how long at most to remember a dead family (ms). See grant_redeem.lua for the states.
local value = redis.call('GET', KEYS[1])
if not value then
  return false
end
local state, code, detail = string.match(value, '^(%u) (%S+) (%S+) ')
if state == 'D' and detail == 'reused' then
  return {'reused', ''}
end
if state ~= 'L' then
  return false
end
local content = string.sub(value, 5 + #code + #detail)
local nonce, current = string.match(detail, '^(%S-):(%S*)$')
if current == ARGV[2] then
  redis.call('SET', KEYS[1], value, 'KEEPTTL') -- a write, so that replicas are waited for again
  return {'grant', content}
end
if current == ARGV[1] then
  redis.call('SET', KEYS[1], 'L ' .. code .. ' ' .. nonce .. ':' .. ARGV[2] .. ' ' .. content, 'KEEPTTL')
  return {'grant', content}
end
local ttl = math.min(redis.call('PTTL', KEYS[1]), tonumber(ARGV[3]))
redis.call('SET', KEYS[1], 'D ' .. code .. ' reused ', 'PX', string.format('%.0f', math.max(ttl, 1)))
return {'reused', ''}
