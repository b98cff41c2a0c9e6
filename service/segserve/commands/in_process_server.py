"""A whole service in this process, for the time of one command: what long commands use without `--server`."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from segserve.app import Role, Service
from segserve.commands.common_options import load_quiet_settings
from segserve.commands.scratch_data import use_scratch_data
from segserve.errors import SegserveError, Unavailable
from segserve.settings import Settings
from segserve.wire.operations.job_runners import create_job_runners
from segserve.wire.rest.api import create_api
from segserve.wire.server import Addresses, Server

# Asks for neither keys nor certificates.
OPEN = {
    "keys_file": None,
    "oidc_issuers": (),
    "tls_cert": None,
    "tls_key": None,
    "tls_client_ca": None,
}
# Private Redis servers and a loopback address: nothing is shared with other services.
PRIVATE = {**OPEN, "host": "127.0.0.1", "redis_url": None, "jobs_redis_url": None}


class InProcessServer(threading.Thread):
    """`InProcessServer` serves REST on a free port and runs jobs in the same process.

    A worker process of its own would load every model a second time.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="service")
        self._service = Service(settings, role=Role.WORKER)
        self._job_worker = self._service.jobs.create_worker(create_job_runners(self._service))
        self._server = Server(self._service, create_api(self._service), 0, None, on_started=self._on_started)
        self._started_or_failed = threading.Event()
        self._url: str | None = None
        self._error: BaseException | None = None

    def _on_started(self, addresses: Addresses) -> None:
        self._service.run_in_background(self._job_worker.run())
        self._url = addresses.rest
        self._started_or_failed.set()

    def run(self) -> None:
        try:
            self._server.run()
        except BaseException as error:
            self._error = error
        finally:
            self._started_or_failed.set()

    def wait_for_url(self) -> str:
        """Wait until the service answers, and return its address. Raises the error that kept it from starting."""
        self._started_or_failed.wait()
        if self._url is not None:
            return self._url
        if isinstance(self._error, SegserveError):
            raise self._error
        raise Unavailable(
            "The service did not start.", remedy="Start 'segserve serve' to see the reason."
        ) from self._error

    def stop(self) -> None:
        self._server.should_exit = True
        self.join()


@contextmanager
def run_in_process_server(data_dir: Path | None) -> Iterator[str]:
    """Run a service while the block runs, on data of its own. Yields its address.

    Raises BadInput for settings that cannot be used.
    """
    with use_scratch_data(load_quiet_settings(data_dir=data_dir).model_copy(update=PRIVATE)) as settings:
        server = InProcessServer(settings)
        server.start()
        try:
            yield server.wait_for_url()
        except KeyboardInterrupt:
            typer.echo("stopping ...", err=True)
            raise
        finally:
            server.stop()
