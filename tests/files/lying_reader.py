"""A reader that its file has taken over: it answers what the file says, operation by operation."""

import json
import os
import signal
import time
from pathlib import Path

from segserve.sandbox.confine import Confinement, allow_cpu_time, confine
from segserve.sandbox.messages import Channel


def warm_up() -> None:
    pass


def serve(channel: Channel) -> None:
    first = channel.receive()
    channel.send({"missing": confine(Confinement(**first))})
    script = json.loads(Path(first["readable"]).read_text())
    while True:
        request, _ = channel.receive_with_files()
        match script[request["operation"]]:
            case "hang":
                time.sleep(600)
            case "compute":
                allow_cpu_time(request["cpu_s"])
                while True:
                    pass
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case {"bytes": raw}:
                channel._connection.sendall(bytes.fromhex(raw))
                time.sleep(600)
            case reply:
                channel.send(reply)
