-- KEYS: grant, memory of the redeemer. ARGV: digest of the code, now (ms), nonce, how long at most to remember a dead family (ms),
-- digest of the family's first refresh token ('' for none), how long the memory lasts (ms).
-- A grant is "<state> <digest of its code> <detail> <content>"; state and detail:
--   C  its code waits; until when (ms), when the family ends (ms), and how many bytes of the content the family keeps;
--      behind them stands the whole of it, for the one who redeems the code
--   L  alive; ":<digest of the current refresh token>", nothing behind the colon when there is none
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
  local code_until, family_until, kept = string.match(detail, '^(%d+)%-(%d+)%-(%d+)$')
  if tonumber(ARGV[2]) >= tonumber(code_until) then
    redis.call('DEL', KEYS[1])
    return false
  end
  local ttl = tonumber(family_until) - tonumber(ARGV[2])
  if ttl <= 0 then
    redis.call('DEL', KEYS[1])
    return false
  end
  local whole = string.sub(content, kept + 1)
  local alive = 'L ' .. code .. ' :' .. ARGV[5] .. ' ' .. string.sub(content, 1, kept)
  redis.call('SET', KEYS[1], alive, 'PX', string.format('%.0f', ttl))
  redis.call('SET', KEYS[2], ARGV[3] .. ' ' .. whole, 'PX', ARGV[6])
  return {'grant', whole}
end
if state == 'L' then
  local nonce, whole = string.match(redis.call('GET', KEYS[2]) or '', '^(%S+) (.*)$')
  if nonce == ARGV[3] then
    redis.call('SET', KEYS[1], value, 'KEEPTTL') -- a write, so that replicas are waited for again
    return {'grant', whole}
  end
  local ttl = math.min(redis.call('PTTL', KEYS[1]), tonumber(ARGV[4]))
  redis.call('SET', KEYS[1], 'D ' .. code .. ' reused ', 'PX', string.format('%.0f', math.max(ttl, 1)))
end
return {'reused', ''}
