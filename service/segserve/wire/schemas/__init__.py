"""The JSON of the REST API as pydantic models, one file an operation.

`*In` is a request body, `*Out` an answer; gRPC messages and the options of batch jobs are checked by the same `*In`.
`prompts.py` has points, boxes and masks (RLE, logits), `objects.py` the answer of all whole-image operations (label
map, COCO, polygons), `discriminated_body.py` bodies that are one of several. Limits on lists and numbers stand beside
the fields; limits on bytes are in `wire.http.limits`.
"""
