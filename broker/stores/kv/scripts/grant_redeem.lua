-- KEYS: grant. ARGV: digest of the code, now (ms), nonce, how long at most to remember a dead family (ms),
-- digest of the family's first refresh token ('' for none).
-- A grant is "<state> <digest of its code> <detail> <content>"; state and detail:
--   C  its code waits; until when (ms), and when the family ends (ms), joined by a dash
--   L  alive; "<nonce of the redeemer>:<digest of the current refresh token>", the latter empty when there is none
--   D  dead; "reused" or "revoked"
local value = redis.call('GET', KEYS[1])
if not value then
  return false
end
local state, code, detail = string.match(value, '^(%u) (%S+) (%S+) ')
if code ~= ARGV[1] then
  return false
end
local content = string.sub(value, 5 + #code + #detail)
if state == 'C' then
  local code_until, family_until = string.match(detail, '^(%d+)%-(%d+)$')
  if tonumber(ARGV[2]) >= tonumber(code_until) then
    redis.call('DEL', KEYS[1])
    return false
  end
  local ttl = tonumber(family_until) - tonumber(ARGV[2])
  if ttl <= 0 then
    redis.call('DEL', KEYS[1])
    return false
  end
  local alive = 'L ' .. code .. ' ' .. ARGV[3] .. ':' .. ARGV[5] .. ' ' .. content
  redis.call('SET', KEYS[1], alive, 'PX', string.format('%.0f', ttl))
  return {'grant', content}
end
if state == 'L' then
  if string.match(detail, '^(%S-):') == ARGV[3] then
    redis.call('SET', KEYS[1], value, 'KEEPTTL') -- a write, so that replicas are waited for again
    return {'grant', content}
  end
  local ttl = math.min(redis.call('PTTL', KEYS[1]), tonumber(ARGV[4]))
  redis.call('SET', KEYS[1], 'D ' .. code .. ' reused ', 'PX', string.format('%.0f', math.max(ttl, 1)))
end
return {'reused', ''}
