-- The end of a login on one server, all or nothing. KEYS: transaction, grant, session, sessions of the user.
-- ARGV:  1 nonce      2 tombstone, '' when the transaction was never stored        3 its ttl (ms)
--        4 grant, '' for none           5 its ttl (ms)
--        6 session    7 its ttl (ms)    8 digest that a kept session must have, '' for a new or renewed one
--        9 session id 10 when it expires (s)   11 now (s)
-- A session is "<digest of its secret> <content>". On a cluster: session_replace, login_close, session_index.
if ARGV[2] ~= '' then
  local value = redis.call('GET', KEYS[1])
  if not value then
    return 0
  end
  local version, nonce = string.match(value, '^(%S+) (%S+) ')
  if version == 'F' and nonce ~= ARGV[1] then
    return 0
  end
end
if ARGV[8] ~= '' then
  local session = redis.call('GET', KEYS[3])
  -- It was signed out, or got another secret, while this login went on.
  if not session or string.match(session, '^(%S+) ') ~= ARGV[8] then
    return 0
  end
end
if ARGV[2] ~= '' then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
if ARGV[4] ~= '' then
  redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])
end
redis.call('SET', KEYS[3], ARGV[6], 'PX', ARGV[7])
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', ARGV[11])
redis.call('ZADD', KEYS[4], ARGV[10], ARGV[9])
if redis.call('PTTL', KEYS[4]) < tonumber(ARGV[7]) then
  redis.call('PEXPIRE', KEYS[4], ARGV[7])
end
return 1
