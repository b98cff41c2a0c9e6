"""Real Redis servers that stand in for each other: a master with Sentinels, and a cluster."""

import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import redis

from segserve.store.redis_servers import find_redis_binaries

START_TIMEOUT_S = 30
# How long a server must be silent until the others replace it.
DOWN_AFTER_MS = 1000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Node:
    """A server on a port of loopback. options: of its command line. arguments: put before them."""

    def __init__(
        self, folder: Path, *arguments: str, port: int | None = None, binary: str = "", **options: object
    ) -> None:
        self.port = port or free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        values = {"port": self.port, "bind": "127.0.0.1", "save": "", "dir": folder, **options}
        pairs = [
            word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))
        ]
        self._command = [binary or find_redis_binaries()[0], *arguments, *pairs]
        self.start()

    def start(self) -> None:
        with (self.folder / f"{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def connect(self, **options: Any) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=5, **options)

    def call(self, *command: Any) -> Any:
        with self.connect() as client:
            return client.execute_command(*command)

    def is_answering(self) -> bool:
        try:
            return bool(self.call("PING"))
        except redis.RedisError:
            return False

    def wait_for_refusal(self) -> None:
        """Wait until the server asks for a password."""

        def refuses() -> bool:
            try:
                self.call("PING")
            except redis.AuthenticationError:
                return True
            except redis.RedisError:
                return False
            return False

        wait_until(refuses, "the server does not answer")

    def wait(self) -> None:
        wait_until(self.is_answering, "the server does not answer")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class SentinelSetup:
    """A master, a replica, and three Sentinels that watch them. options: of both servers."""

    SERVICE = "segserve"

    def __init__(self, folder: Path, **options: object) -> None:
        self.master = Node(folder / "master", **options)
        self.replica = Node(folder / "replica", replicaof=f"127.0.0.1 {self.master.port}", **options)
        self.sentinels = [self._start_sentinel(folder / f"sentinel-{number}") for number in range(3)]
        wait_until(lambda: len(self._seen_replicas()) == 1, "the Sentinels do not see the replica")
        wait_until(
            lambda: all(
                len(node.call("SENTINEL", "SENTINELS", self.SERVICE)) == 2 for node in self.sentinels
            ),
            "the Sentinels do not see each other",
        )
        wait_until(lambda: b"state=online" in self._replication(), "the replica does not follow")

    def _start_sentinel(self, folder: Path) -> Node:
        folder.mkdir(parents=True)
        file = folder / "sentinel.conf"
        name, port = self.SERVICE, free_port()
        file.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {name} 127.0.0.1 {self.master.port} 2\n"
            f"sentinel down-after-milliseconds {name} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {name} 5000\n"
        )
        # Its options are in the file, which it rewrites.
        node = Node.__new__(Node)
        node.port, node.folder = port, folder
        node._command = [find_redis_binaries()[0], str(file), "--sentinel"]
        node.start()
        node.wait()
        return node

    def _seen_replicas(self) -> Sequence[Any]:
        answer: Sequence[Any] = self.sentinels[0].call("SENTINEL", "REPLICAS", self.SERVICE)
        return answer

    def _replication(self) -> bytes:
        with self.master.connect() as client:
            return repr(client.info("replication")).replace("'state': 'online'", "state=online").encode()

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(node.address for node in self.sentinels)}/{self.SERVICE}/0"

    def master_port(self) -> int:
        return int(self.sentinels[0].call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.SERVICE)[1])

    def close(self) -> None:
        for node in [*self.sentinels, self.replica, self.master]:
            node.kill()


class Cluster:
    """Three nodes with a third of the slots each, and a replica of the first. options: of all servers."""

    SLOTS = ((0, 5460), (5461, 10922), (10923, 16383))

    def __init__(self, folder: Path, *, replica: bool = False, **options: object) -> None:
        self.nodes = [self._start_node(folder / f"node-{number}", options) for number in range(3 + replica)]
        for node in self.nodes:
            node.wait()
        for node, slots in zip(self.nodes, self.SLOTS, strict=False):
            node.call("CLUSTER", "ADDSLOTSRANGE", *slots)
            node.call("CLUSTER", "SET-CONFIG-EPOCH", self.nodes.index(node) + 1)
        for node in self.nodes[1:]:
            node.call("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        wait_until(
            lambda: all(len(self._known(node)) == len(self.nodes) for node in self.nodes),
            "the nodes do not know each other",
        )
        if replica:
            first = self.nodes[0].call("CLUSTER", "MYID")
            self.nodes[3].call("CLUSTER", "REPLICATE", first)
            wait_until(lambda: self.nodes[0].call("ROLE")[2], "the replica does not follow")
        wait_until(lambda: all(map(self._is_ok, self.nodes)), "the cluster is not complete")

    def _start_node(self, folder: Path, options: dict[str, object]) -> Node:
        port = free_port()
        while port > 55535:  # the nodes talk to each other at a port 10,000 higher
            port = free_port()
        cluster = {"cluster-enabled": "yes", "cluster-node-timeout": DOWN_AFTER_MS}
        return Node(folder, port=port, **{**cluster, "cluster-require-full-coverage": "no", **options})

    def _known(self, node: Node) -> list[str]:
        with node.connect() as client:
            answer: Any = client.execute_command("CLUSTER NODES")
        return list(answer)

    def _is_ok(self, node: Node) -> bool:
        with node.connect() as client:
            return bool(client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(node.address for node in self.nodes)}"

    def close(self) -> None:
        for node in self.nodes:
            node.kill()
