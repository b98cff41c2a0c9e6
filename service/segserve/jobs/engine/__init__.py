"""The job engine: an asynchronous job queue in Redis with fencing, leases, retries, cancellation and webhooks. It knows
no kind of job.

- `job.py`: the job and its states (a state diagram). `job_json.py`: a job as JSON. `job_events.py`: its events.
- `job_queue.py`: submit, idempotency key, follow, cancel, retry, revise. `job_store.py`, `lua_scripts.py`,
  `jobs_redis.py`: the states in Redis. `result_store.py`: requests, results and states of chunks in the object store.
- `worker.py`: takes jobs and retries them. `job_turns.py`: whose job is next, by tenant. `attempt_runner.py`: makes the
  chunks; priorities, lease, cancellation.
  `retry_policy.py`: retry limits and backoff. `job_sweeper.py`: lost jobs, expiry. `stop_signal.py`: stops a job.
  `job_kind_runner.py`: the interface of a kind of job. `embedded_worker.py`: the worker process of a lone service.
- `webhook_queue.py`, `webhook_sender.py`: webhooks, their signature and retries.
"""
