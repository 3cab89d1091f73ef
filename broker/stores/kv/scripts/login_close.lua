-- The end of a login, as far as it happens once, in one slot: on a cluster, and where no code is made.
-- KEYS: transaction, grant.
-- ARGV: nonce, tombstone ('' when the transaction was never stored), its ttl (ms), grant ('' for none), its ttl (ms).
if ARGV[2] ~= '' then
  local value = redis.call('GET', KEYS[1])
  if not value then
    return 0
  end
  local version, nonce = string.match(value, '^(%S+) (%S+) ')
  if version == 'F' and nonce ~= ARGV[1] then
    return 0
  end
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
if ARGV[4] ~= '' then
  redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])
end
return 1
