"""Jobs: long work in the background (batches of images, videos, volumes, cell tracking), by workers that may die at
any moment.

In come requests that `wire` has checked, as JSON; out come result lines, one JSON object for each image, frame or
slice, in the object store.

- `job_services.py` builds the parts from the settings.
- `usage_store.py`: what tenants used, by day. `tenant_deleter.py`: deletes all of a tenant.
- `engine/` runs any kind of job: queue, job store, worker, retry limits, results, webhooks.
- `kinds/` has the kinds of jobs: batch, propagation of objects, volume merging, cell tracking.
"""
