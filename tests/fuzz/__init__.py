"""Fuzzers: they send what nobody would send, and watch what becomes of the service.

    make fuzz ARGS="--minutes 5"            all targets; ARGS="--minutes 5 tiff http" only these
    python -m tests.fuzz --replay FILE...   what a finding's file does, alone

Two sorts of targets share the time:

- `harnesses/`: functions that give bytes to one reader of our own, in this process, guided by coverage (atheris).
- `mutators/`: HTTP, gRPC and files in every format, sent to a real service, which `watch.py` observes; and damaged
  files read in sandboxed processes, where the native libraries are.

Each finding is a file that repeats it: the input, in a folder of its target's name. Inputs that once failed are kept in
`regressions/`, and the tests run them and all seeds through every target.
"""
