"""Turns images into embeddings, each once: the slow half of interactive segmentation.

In: the id of a stored image (or a region, a video frame, a slice). Out: a prepared embedding, as the mask decoder in
`decode/` reads it. Order of search: this process, Redis, the encoder.

- `embeddings.py`: `Embeddings`, the way from an image id to a prepared embedding
- `frame_embeddings.py`: the same for frames of videos and slices of volumes
- `single_flight.py`: of all replicas that need the same embedding, one encodes (lock in Redis)
- `encode_request.py`: what an encoder gets; the `Encoder` protocol
- `encoder.py`: `LocalEncoder`, priority queue, micro-batching, out-of-memory handling
- `preprocess.py`: resizing, padding and normalisation of pixels to a model's input tensor
- `prepared_cache.py`: LRU cache of prepared embeddings in this process
"""
