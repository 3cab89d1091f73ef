-- The end of a login, all or nothing. KEYS: transaction, session, sessions of the user, grant.
-- ARGV:  1 nonce      2 tombstone, '' when the transaction was never stored        3 its ttl (ms)
--        4 session    5 its ttl (ms)   6 digest that a kept session must have, '' for a new or renewed one
--        7 session id 8 when it expires (ms)   9 now (ms)
--       10 grant, '' for none          11 its ttl (ms)
-- A session is "<digest of its secret> <content>".
if ARGV[2] ~= '' then
  local value = redis.call('GET', KEYS[1])
  if not value then
    return 0
  end
  local version, nonce = string.match(value, '^(%S+) (%S+) ')
  if version == 'F' then
    return nonce == ARGV[1] and 1 or 0
  end
end
if ARGV[6] ~= '' then
  local session = redis.call('GET', KEYS[2])
  -- It was signed out, or got another secret, while this login went on.
  if not session or string.match(session, '^(%S+) ') ~= ARGV[6] then
    return 0
  end
end
if ARGV[2] ~= '' then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', ARGV[9])
redis.call('ZADD', KEYS[3], ARGV[8], ARGV[7])
if redis.call('PTTL', KEYS[3]) < tonumber(ARGV[5]) then
  redis.call('PEXPIRE', KEYS[3], ARGV[5])
end
if ARGV[10] ~= '' then
  redis.call('SET', KEYS[4], ARGV[10], 'PX', ARGV[11])
end
return 1
