"""What the ledger changes, in Lua: Redis runs each whole or not at all."""

# KEYS of all: the job, its events, its chunks, the active jobs, its lease. KEYS 6 of those that close: the due
# webhooks.
HELPERS = """
local last  -- event: its id begins with the server's time in ms
local function tell()
    last = redis.call('XADD', KEYS[2], 'MAXLEN', '~', 100000, '*', unpack(redis.call('HGETALL', KEYS[1])))
    return last
end
local function close(member, ttl)
    if redis.call('HEXISTS', KEYS[1], 'webhook') == 1 then
        redis.call('ZADD', KEYS[6], string.match(last, '%d+'), member .. '/' .. last)
    end
    redis.call('SREM', KEYS[4], member)
    redis.call('DEL', KEYS[5])
    for i = 1, 3 do redis.call('EXPIRE', KEYS[i], ttl) end
end
local function state() return redis.call('HGET', KEYS[1], 'state') end
local function ended() local s = state() return s ~= 'queued' and s ~= 'running' end
"""
# ARGV: member, most active jobs, ttl of the idempotency key, digest of the request, job_id, created_at, the hash's
# fields. KEYS 6: the tenant's jobs, 7: the idempotency key, if there is one.
SUBMIT = f"""{HELPERS}
if KEYS[7] then
    local before = redis.call('HMGET', KEYS[7], 'job_id', 'request')
    if before[1] then return before end
end
if redis.call('SCARD', KEYS[4]) >= tonumber(ARGV[2]) then return 'full' end
if KEYS[7] then
    redis.call('HSET', KEYS[7], 'job_id', ARGV[5], 'request', ARGV[4])
    redis.call('EXPIRE', KEYS[7], ARGV[3])
end
redis.call('HSET', KEYS[1], unpack(ARGV, 7))
redis.call('SADD', KEYS[4], ARGV[1])
redis.call('ZADD', KEYS[6], ARGV[6], ARGV[5])
tell()
return {{ARGV[5], ARGV[4]}}
"""
# ARGV: member, ttl, now, most attempts, the error once they are used up, the fence of a start to go on from, the
# lease in ms, the token of the start. The new fence and the event's id, or 'failed', or nil: nothing to do, or another
# worker is at it.
BEGIN = f"""{HELPERS}
if not state() or ended() then return nil end
local before = redis.call('HMGET', KEYS[1], 'state', 'token', 'fence', 'token_event')
if before[1] == 'running' and before[2] == ARGV[8] then  -- this very start, whose answer was lost
    redis.call('SET', KEYS[5], before[3], 'PX', ARGV[7])
    return {{before[3], before[4]}}
end
if ARGV[6] ~= '' and redis.call('HGET', KEYS[1], 'fence') ~= ARGV[6] then return nil end
if ARGV[6] == '' and redis.call('EXISTS', KEYS[5]) == 1 then return nil end
local fence = redis.call('HINCRBY', KEYS[1], 'fence', 1)
if redis.call('HINCRBY', KEYS[1], 'attempts', 1) > tonumber(ARGV[4]) then
    redis.call('HSET', KEYS[1], 'attempts', ARGV[4], 'state', 'failed', 'error', ARGV[5], 'ended_at', ARGV[3])
    tell()
    close(ARGV[1], ARGV[2])
    return 'failed'
end
redis.call('HSETNX', KEYS[1], 'started_at', ARGV[3])
redis.call('HSET', KEYS[1], 'state', 'running')
redis.call('SET', KEYS[5], fence, 'PX', ARGV[7])
redis.call('HSET', KEYS[1], 'token', ARGV[8], 'token_event', tell())
return {{fence, last}}
"""
REQUIRE_FENCE = """
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] or ended() then return 0 end
"""
# ARGV: fence, the lease in ms.
RENEW = f"""{HELPERS}{REQUIRE_FENCE}
redis.call('SET', KEYS[5], ARGV[1], 'PX', ARGV[2])
return 1
"""
# ARGV: fence, then fields of the hash.
SET_FIELDS = f"""{HELPERS}{REQUIRE_FENCE}
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
tell()
return 1
"""
# ARGV: fence, the chunk's number, units done with it, how it is noted, then fields of the hash.
PUBLISH = f"""{HELPERS}{REQUIRE_FENCE}
local chunks = tonumber(redis.call('HGET', KEYS[1], 'chunks') or 0)
if chunks == ARGV[2] + 1 then return 1 end  -- by this very start, whose answer was lost
if chunks ~= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'chunks', ARGV[2] + 1, 'done', ARGV[3], 'attempts', 1, unpack(ARGV, 5))
redis.call('RPUSH', KEYS[3], ARGV[4])
tell()
return 1
"""
# ARGV: fence, member, ttl, then fields of the hash.
END = f"""{HELPERS}{REQUIRE_FENCE}
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
tell()
close(ARGV[2], ARGV[3])
return 1
"""
# ARGV: member, ttl, now.
CANCEL = f"""{HELPERS}
if not state() or ended() then return 0 end
redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HSET', KEYS[1], 'state', 'cancelled', 'ended_at', ARGV[3])
tell()
close(ARGV[1], ARGV[2])
return 1
"""
# ARGV: member, most active jobs.
RETRY = f"""{HELPERS}
local s = state()
if s ~= 'failed' and s ~= 'cancelled' then return 0 end
if redis.call('SCARD', KEYS[4]) >= tonumber(ARGV[2]) then return 'full' end
redis.call('HDEL', KEYS[1], 'error', 'ended_at', 'rate_per_s')
redis.call('HINCRBY', KEYS[1], 'fence', 1)  -- what an earlier start still says comes too late
redis.call('HSET', KEYS[1], 'state', 'queued', 'attempts', 0)
for i = 1, 3 do redis.call('PERSIST', KEYS[i]) end
redis.call('SADD', KEYS[4], ARGV[1])
tell()
return 1
"""
# ARGV: member, the revision that is revised, chunks to keep, most active jobs, the new request's name.
REVISE = f"""{HELPERS}
if not state() then return 'gone' end
if tonumber(redis.call('HGET', KEYS[1], 'revision') or 0) ~= tonumber(ARGV[2]) then return 'raced' end
if ended() and redis.call('SCARD', KEYS[4]) >= tonumber(ARGV[4]) then return 'full' end
local keep = math.min(tonumber(ARGV[3]), redis.call('LLEN', KEYS[3]))
local lines, done, failures = 0, 0, 0
if keep == 0 then
    redis.call('DEL', KEYS[3])
else
    redis.call('LTRIM', KEYS[3], 0, keep - 1)
    lines, done, failures = string.match(redis.call('LINDEX', KEYS[3], -1), '(%d+) (%d+) (%d+)')
end
redis.call('HDEL', KEYS[1], 'error', 'ended_at', 'rate_per_s', 'total')
redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HSET', KEYS[1], 'state', 'queued', 'attempts', 0, 'revision', ARGV[2] + 1, 'asked', ARGV[5],
    'chunks', keep, 'done', done, 'failures', failures)
redis.call('DEL', KEYS[5])
for i = 1, 3 do redis.call('PERSIST', KEYS[i]) end
redis.call('SADD', KEYS[4], ARGV[1])
tell()
return 'revised'
"""
# ARGV: fence. A start that ends on purpose before its chunk does not count against the job.
RELEASE = f"""{HELPERS}{REQUIRE_FENCE}
if state() == 'queued' then return 1 end  -- by this very start, whose answer was lost
redis.call('HINCRBY', KEYS[1], 'attempts', -1)
redis.call('HSET', KEYS[1], 'state', 'queued')
redis.call('DEL', KEYS[5])
tell()
return 1
"""
