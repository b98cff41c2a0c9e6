"""The changes of `JobStore`, as Lua scripts: Redis runs each of them whole or not at all.

KEYS of all scripts: 1 the job, 2 its events, 3 its chunks, 4 the active jobs, 5 its lease. KEYS 6 of the scripts that
end a job: the due webhooks. ARGV stands above each script; "member" is the job's member of the set of active jobs.
"""

# append_event: adds the job as it is now to its events. close: what every end of a job does, after its event.
HELPERS = """
local last  -- the id of the last event; it begins with the server's time in ms
local function append_event()
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
-- Whether `maximum` jobs are active, or `tenant_maximum` of the tenant whose member this is; 0 is no limit.
local function full(member, maximum, tenant_maximum)
    if redis.call('SCARD', KEYS[4]) >= tonumber(maximum) then return 'full' end
    if tonumber(tenant_maximum) == 0 then return nil end
    local tenant, count = string.match(member, '^[^/]*/'), 0
    for _, other in ipairs(redis.call('SMEMBERS', KEYS[4])) do
        if string.sub(other, 1, #tenant) == tenant then count = count + 1 end
    end
    if count >= tonumber(tenant_maximum) then return 'tenant_full' end
end
local function ended() local s = state() return s ~= 'queued' and s ~= 'running' end
"""
# ARGV: member, maximum of active jobs, of those of the tenant, ttl of the idempotency key in s, digest of the request,
# job_id, created_at, then the fields of the hash. KEYS 6: the tenant's jobs, 7: the idempotency key, if there is one.
# Returns 'full', 'tenant_full', or the id and the request's digest of the job that stands under the key.
SUBMIT = f"""{HELPERS}
if KEYS[7] then
    local before = redis.call('HMGET', KEYS[7], 'job_id', 'request')
    -- A job that was deleted does not stand under its key any more.
    local key_of_jobs = string.sub(KEYS[1], 1, -#ARGV[6] - 1)
    if before[1] and redis.call('EXISTS', key_of_jobs .. before[1]) == 1 then return before end
end
local is_full = full(ARGV[1], ARGV[2], ARGV[3])
if is_full then return is_full end
if KEYS[7] then
    redis.call('HSET', KEYS[7], 'job_id', ARGV[6], 'request', ARGV[5])
    redis.call('EXPIRE', KEYS[7], ARGV[4])
end
redis.call('HSET', KEYS[1], unpack(ARGV, 8))
redis.call('SADD', KEYS[4], ARGV[1])
redis.call('ZADD', KEYS[6], ARGV[7], ARGV[6])
append_event()
return {{ARGV[6], ARGV[5]}}
"""
# ARGV: member, ttl in s, now, maximum of attempts, the error if they are used up, the fence of the attempt to go on
# from (or ''), the lease in ms, the token of the new attempt.
# Returns the new fence and the event's id; 'failed' if the attempts are used up; nil if the job has ended or another
# worker holds it.
BEGIN = f"""{HELPERS}
if not state() or ended() then return nil end
local before = redis.call('HMGET', KEYS[1], 'state', 'token', 'fence', 'token_event')
if before[1] == 'running' and before[2] == ARGV[8] then  -- the same attempt: its answer was lost
    redis.call('SET', KEYS[5], before[3], 'PX', ARGV[7])
    return {{before[3], before[4]}}
end
if ARGV[6] ~= '' and redis.call('HGET', KEYS[1], 'fence') ~= ARGV[6] then return nil end
if ARGV[6] == '' and redis.call('EXISTS', KEYS[5]) == 1 then return nil end
local fence = redis.call('HINCRBY', KEYS[1], 'fence', 1)
if redis.call('HINCRBY', KEYS[1], 'attempts', 1) > tonumber(ARGV[4]) then
    redis.call('HSET', KEYS[1], 'attempts', ARGV[4], 'state', 'failed', 'error', ARGV[5], 'ended_at', ARGV[3])
    append_event()
    close(ARGV[1], ARGV[2])
    return 'failed'
end
redis.call('HSETNX', KEYS[1], 'started_at', ARGV[3])
redis.call('HSET', KEYS[1], 'state', 'running')
redis.call('SET', KEYS[5], fence, 'PX', ARGV[7])
redis.call('HSET', KEYS[1], 'token', ARGV[8], 'token_event', append_event())
return {{fence, last}}
"""
# ARGV 1: the fence of the attempt. Returns 0 if the attempt holds the job no more.
REQUIRE_FENCE = """
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] or ended() then return 0 end
"""
# ARGV: fence, the lease in ms.
RENEW = f"""{HELPERS}{REQUIRE_FENCE}
redis.call('SET', KEYS[5], ARGV[1], 'PX', ARGV[2])
return 1
"""
# ARGV: fence, then the fields of the hash.
SET_FIELDS = f"""{HELPERS}{REQUIRE_FENCE}
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
append_event()
return 1
"""
# ARGV: fence, the chunk's number, units done with it, the encoded chunk, then the fields of the hash.
PUBLISH = f"""{HELPERS}{REQUIRE_FENCE}
local chunks = tonumber(redis.call('HGET', KEYS[1], 'chunks') or 0)
if chunks == ARGV[2] + 1 then return 1 end  -- by the same attempt: its answer was lost
if chunks ~= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'chunks', ARGV[2] + 1, 'done', ARGV[3], 'attempts', 1, unpack(ARGV, 5))
redis.call('RPUSH', KEYS[3], ARGV[4])
append_event()
return 1
"""
# ARGV: fence, member, ttl in s, then the fields of the hash.
END = f"""{HELPERS}{REQUIRE_FENCE}
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
append_event()
close(ARGV[2], ARGV[3])
return 1
"""
# ARGV: member, ttl in s, now.
CANCEL = f"""{HELPERS}
if not state() or ended() then return 0 end
redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HSET', KEYS[1], 'state', 'cancelled', 'ended_at', ARGV[3])
append_event()
close(ARGV[1], ARGV[2])
return 1
"""
# KEYS 6: the tenant's jobs. ARGV: the job_id. Returns 'deleted', or why not: 'gone', 'active'.
DELETE = f"""{HELPERS}
if not state() then return 'gone' end
if not ended() then return 'active' end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[5])
redis.call('ZREM', KEYS[6], ARGV[1])
return 'deleted'
"""
# ARGV: member, maximum of active jobs, of those of the tenant.
RETRY = f"""{HELPERS}
local s = state()
if s ~= 'failed' and s ~= 'cancelled' then return 0 end
local is_full = full(ARGV[1], ARGV[2], ARGV[3])
if is_full then return is_full end
redis.call('HDEL', KEYS[1], 'error', 'ended_at', 'rate_per_s')
redis.call('HINCRBY', KEYS[1], 'fence', 1)  -- refuses what an earlier attempt still writes
redis.call('HSET', KEYS[1], 'state', 'queued', 'attempts', 0)
for i = 1, 3 do redis.call('PERSIST', KEYS[i]) end
redis.call('SADD', KEYS[4], ARGV[1])
append_event()
return 1
"""
# ARGV: member, the revision that is revised, chunks to keep, maximum of active jobs, of those of the tenant, the new
# request's name. Returns 'revised', or why not: 'gone', 'raced' (the job has another revision), 'full', 'tenant_full'.
REVISE = f"""{HELPERS}
if not state() then return 'gone' end
if tonumber(redis.call('HGET', KEYS[1], 'revision') or 0) ~= tonumber(ARGV[2]) then return 'raced' end
local is_full = ended() and full(ARGV[1], ARGV[4], ARGV[5])
if is_full then return is_full end
local keep = math.min(tonumber(ARGV[3]), redis.call('LLEN', KEYS[3]))
local done, failures, ends = 0, 0, '0'
if keep == 0 then
    redis.call('DEL', KEYS[3])
else
    redis.call('LTRIM', KEYS[3], 0, keep - 1)
    done, failures, ends = string.match(redis.call('LINDEX', KEYS[3], -1), '%d+ (%d+) (%d+) %d+ ?(%S*)')
end
redis.call('HDEL', KEYS[1], 'error', 'ended_at', 'rate_per_s', 'total')
redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HSET', KEYS[1], 'state', 'queued', 'attempts', 0, 'revision', ARGV[2] + 1, 'asked', ARGV[6],
    'chunks', keep, 'done', done, 'failures', failures, 'object_ends', ends)
redis.call('DEL', KEYS[5])
for i = 1, 3 do redis.call('PERSIST', KEYS[i]) end
redis.call('SADD', KEYS[4], ARGV[1])
append_event()
return 'revised'
"""
# ARGV: fence, for how many ms other workers may not begin the job. An attempt that ends on purpose does not count
# against the job.
RELEASE = f"""{HELPERS}{REQUIRE_FENCE}
if tonumber(ARGV[2]) > 0 then redis.call('SET', KEYS[5], ARGV[1], 'PX', ARGV[2]) else redis.call('DEL', KEYS[5]) end
if state() == 'queued' then return 1 end  -- by the same attempt: its answer was lost, or it is shut down in its pause
redis.call('HINCRBY', KEYS[1], 'attempts', -1)
redis.call('HSET', KEYS[1], 'state', 'queued')
append_event()
return 1
"""
