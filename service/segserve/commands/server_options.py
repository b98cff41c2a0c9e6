"""Options shared by `serve`, `encoder` and `worker`: where to listen, how to log, and who encodes."""

from typing import Annotated

import structlog
import typer

from segserve import logs
from segserve.commands.common_options import list_unknown_variables
from segserve.encode.encode_request import Encoder
from segserve.settings import Settings
from segserve.wire.tls_files import open_encoder_files

Host = Annotated[
    str | None, typer.Option(envvar="SEGSERVE_HOST", help="Address to listen on [default: 127.0.0.1].")
]
MetricsPort = Annotated[
    int, typer.Option(envvar="SEGSERVE_METRICS_PORT", help="HTTP port for /metrics, /livez and /readyz.")
]
EncoderUrl = Annotated[
    str | None,
    typer.Option(
        envvar="SEGSERVE_ENCODER_URL",
        help="gRPC target of the encoder workers, such as dns:///encoder:8010"
        " [default: this process encodes].",
    ),
]
LogFormat = Annotated[
    str | None, typer.Option(envvar="SEGSERVE_LOG_FORMAT", help="text or json [default: text].")
]

log = structlog.get_logger(__name__)


def configure_logs(settings: Settings, process: int | None = None) -> None:
    """Log as the settings say, and warn of variables that are no settings. process: as `configure_logging` has it."""
    logs.configure_logging(settings.log_format, settings.log_level, process)
    for warning in list_unknown_variables():
        log.warning(warning)


def connect_encoder(settings: Settings) -> Encoder | None:
    """Return the client of the encoder workers, or None where this process encodes.

    Raises BadInput for certificates that cannot be used.
    """
    url = settings.encoder_url
    if url is None:
        return None
    from segserve.wire.grpc.encoder_client import RemoteEncoder  # imports gRPC, which nothing else here needs

    return RemoteEncoder(url, settings.encode_timeout_s, open_encoder_files(settings))
