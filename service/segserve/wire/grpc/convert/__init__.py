"""Between protobuf messages and what is used inside, one file an operation.

`*_from_message` makes the body that REST takes of a request message, and checks it; `*_to_message` makes the answer.
"""
