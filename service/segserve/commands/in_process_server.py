"""A service of one's own: the whole of it, in this process, for one command."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segserve.app import Role, Service
from segserve.commands.single_image import quiet_settings
from segserve.errors import SegserveError, Unavailable
from segserve.wire.operations.batch import create_job_runners
from segserve.wire.rest.api import create_api
from segserve.wire.server import Server

# It shares neither queues nor ports with others.
ALONE = {"host": "127.0.0.1", "redis_url": None, "jobs_redis_url": None}


class Own(threading.Thread):
    """Answers on a free port, and runs jobs by itself: a process for them would load everything again."""

    def __init__(self, data_dir: Path | None) -> None:
        super().__init__(name="service")
        settings = quiet_settings(data_dir=data_dir).model_copy(update=ALONE)
        self._service = Service(settings, role=Role.WORKER)
        self._jobs = self._service.jobs.worker(create_job_runners(self._service))
        self._server = Server(
            self._service, create_api(self._service), 0, None, worker=False, started_at=self._answers
        )
        self._settled = threading.Event()
        self._url: str | None = None
        self._error: BaseException | None = None

    def _answers(self, url: str, grpc: str | None) -> None:
        self._service.background(self._jobs.run())
        self._url = url
        self._settled.set()

    def run(self) -> None:
        try:
            self._server.run()
        except BaseException as error:
            self._error = error
        finally:
            self._settled.set()

    def url(self) -> str:
        """Once it answers. Raises what it met instead."""
        self._settled.wait()
        if self._url is not None:
            return self._url
        if isinstance(self._error, SegserveError):
            raise self._error
        raise Unavailable(
            "The service did not start.", remedy="Does 'segserve serve' say why?"
        ) from self._error

    def stop(self) -> None:
        self._server.should_exit = True
        self.join()


@contextmanager
def own_service(data_dir: Path | None) -> Iterator[str]:
    """The address of a service that lives as long as the block. Raises BadInput for settings that cannot be."""
    own = Own(data_dir)
    own.start()
    try:
        yield own.url()
    finally:
        own.stop()
