-- KEYS: value, memory of the last writer. ARGV: nonce, memory (ms), value, ttl (ms).
if redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4], 'NX') then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
  return 1
end
if redis.call('GET', KEYS[2]) == ARGV[1] then
  redis.call('PEXPIRE', KEYS[2], ARGV[2]) -- a write, so that replicas are waited for again
  return 1
end
return 0
