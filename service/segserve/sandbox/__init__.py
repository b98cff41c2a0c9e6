"""Processes that parse what strangers send, each for one file, and can do little else.

    service --spawns--> fork server (warm, one thread) --forks--> a process for each file

`sandbox.py` is the service's side: it starts the fork server, opens processes, calls them, and kills them by time.
`fork_server.py` has imported the libraries, holds nothing secret, and forks. `confine.py` sets a new process's limits
(memory, CPU time, files) before it parses a byte; `landlock.py` takes the file system and `seccomp.py` the system calls
away from it. `messages.py` carries small JSON messages; `shared_pixels.py` carries pixels.

The service trusts no process that has parsed a file: it checks each reply, unpickles nothing, and chooses the size of
all memory that it shares. A process serves one file and ends, so nothing of one file is there for the next.
"""
