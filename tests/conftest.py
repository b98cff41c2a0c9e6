import gc
import io
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

# Processes that tests start would compile all modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import numpy as np
import pytest
import structlog
from hypothesis import settings
from PIL import Image

from segserve.store.private_redis import is_redis_answering
from segserve.store.redis_servers import find_redis_binaries
from tests import forked_program
from tests.serving import Server

# So that tests mean the same whether OpenVINO is installed or not. Its own tests ask for it.
os.environ.setdefault("SEGSERVE_RUNTIME", "onnxruntime")
settings.register_profile("segserve", deadline=None)  # the machines are noisy
settings.load_profile("segserve")


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Bytes in a test's name may differ from one collection to the next (gzip notes the time), and xdist compares the
    names of all workers."""
    return argname if isinstance(val, bytes) and not val.isascii() else None


def pytest_configure(config: pytest.Config) -> None:
    """All workers of xdist have programs forked by the same server.

    Garbage is not looked for while tests are collected: there is none among modules, and it takes seconds.
    """
    if config.getoption("numprocesses", None):
        forked_program.start_programs()
    else:
        gc.disable()


# Begun first, since each takes a minute or more and its tests share a service or a model; the others fill the gaps.
LONGEST_FILES = (
    "wire/test_schema.py",
    "models/importers/test_import_checkpoint.py",
    "train/test_train_promptable.py",
    "wire/test_automatic.py",
    "wire/test_jobs.py",
    "corpus/test_corpus.py",
    "deploy/test_compose.py",
    "fuzz/test_mutators.py",
    "deploy/test_dashboards.py",
    "test_wheel.py",
    "wire/test_instances.py",
    "wire/test_request_size.py",
    "images/test_fetch_url.py",
    "wire/test_semantic.py",
    "train/test_train_unet.py",
)
# Folders whose tests start processes.
SLOW_FOLDERS = ("wire", "commands", "jobs", "deploy", "clients", "models")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin the longest files first where files run side by side, so that none of them runs alone at the end."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        # A stable sort: the tests of a file stay in order.
        items.sort(key=lambda item: start_order(item.path.relative_to(TESTS)))


def start_order(file: Path) -> tuple[int, bool]:
    longest = LONGEST_FILES.index(file.as_posix()) if file.as_posix() in LONGEST_FILES else len(LONGEST_FILES)
    return longest, file.parts[0] not in SLOW_FOLDERS


def pytest_collection_finish() -> None:
    """Take what was imported and collected out of the garbage collector: going through it took half a second, and
    readers of videos collect garbage for each file that they open."""
    gc.collect()
    gc.freeze()
    gc.enable()
    forked_program.restore_environment()


@pytest.fixture(autouse=True, scope="module")
def _usual_priority() -> Iterator[None]:
    """A library that gives this process real-time priority gives it to all services that later tests start."""
    yield
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.fixture(autouse=True)
def _usual_logs() -> Iterator[None]:
    """A command that runs in this process logs to the output of its test, which is closed after it."""
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _usual_environment() -> Iterator[None]:
    """A library that was first imported by a test (cv2) no longer changes what programs read when they start."""
    yield
    forked_program.restore_environment()


TESTS = Path(__file__).parent
EXAMPLES = TESTS.parent / "examples"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One service with its private Redis. Only for tests that leave it as it was."""
    running = Server(tmp_path_factory.mktemp("service"))
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="session")
def nuclei() -> Path:
    return EXAMPLES / "nuclei.png"


@pytest.fixture
def noise() -> bytes:
    """A PNG that no other test uploads."""
    picture = io.BytesIO()
    values = np.frombuffer(os.urandom(64 * 48 * 3), np.uint8).reshape(48, 64, 3)
    Image.fromarray(values).save(picture, "PNG")
    return picture.getvalue()


class ExternalRedis:
    """A Redis server that a test can kill and start again. options: of its command line."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._options, self.socket = options, folder / "r.sock"
        self.url = f"unix://{self.socket}"
        self.start()

    def start(self) -> None:
        command = [
            find_redis_binaries()[0],
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--save",
            "",
            "--dir",
            str(self.socket.parent),
            *self._options,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not is_redis_answering(self.socket):
            time.sleep(0.01)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExternalRedis]:
    started = ExternalRedis(tmp_path_factory.mktemp("r"))
    yield started
    started.kill()
