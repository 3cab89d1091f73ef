-- One more session of a user; those that ended are forgotten. KEYS: sessions of the user.
-- ARGV: session id, when it expires (s), now (s), what is left of it (ms).
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return 1
