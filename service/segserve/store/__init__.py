"""Where data is kept: Redis for what can be computed again, the object store for what cannot.

- `redis_cache.py`: `RedisCache`, embeddings, AIS maps and masks shared by the replicas; locks; pub/sub notices
- `redis_connection.py`, `redis_url.py`: one server, the master that Sentinels name, or a cluster
- `redis_keys.py`: every Redis key and channel
- `private_redis.py`: the server that a service starts if no Redis is set
- `object_store.py`: `ObjectStore`, bytes under paths in a folder, S3, or another cloud; signed URLs
- `object_paths.py`: every path in the object store
- `image_store.py`, `file_store.py`: uploaded images (with their tiles) and files, and their records
- `content_id.py`: image_id and file_id, the sha256 of the content
- `expiry.py`: deletes what was stored long ago
- `quota.py`, `storage_counts.py`: how much a tenant may store, and stores. `list_tenants.py`: who has stored anything
- `tenant_deletions.py`: marks of tenants that are being deleted
"""
