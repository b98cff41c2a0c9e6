"""Certificates, keys and authorities, read from files and read again when these change.

Renewed certificates then need no restart, and no connection is dropped: those that are open keep what they began with.
"""

import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from segserve.errors import BadInput
from segserve.file_version import FileVersion, read_file_version
from segserve.settings import Settings

# How often the files are looked at, at most: a handshake in between takes what was read last.
CHECK_INTERVAL_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Certificates:
    """The contents of the files, in PEM. cert: a certificate with those between it and its authority. key: of the first
    of them, not encrypted. ca: the authorities that the other side's certificate must be of.

    version: another one for other contents.
    """

    cert: bytes | None
    key: bytes | None
    ca: bytes | None
    version: int

    def decode_ca(self) -> str:
        return "" if self.ca is None else self.ca.decode("ascii", "replace")


class CertificateFiles:
    """`CertificateFiles` reads a certificate, its key and authorities, and again when a file has changed.

    Files that do not fit, as while only one of two is replaced, are not taken; what was read before stays in use.

    cert, key, ca: each None where there is none. names: of the three settings, for errors.

    Raises BadInput for files that cannot be used.
    """

    def __init__(
        self, cert: Path | None, key: Path | None, ca: Path | None, names: tuple[str, str, str]
    ) -> None:
        if (cert is None) != (key is None):
            given, missing = (names[0], names[1]) if cert else (names[1], names[0])
            raise BadInput(
                f"{given} is set without {missing}.", field=missing, remedy="Set both, or neither."
            )
        self.cert_path, self.key_path, self.ca_path, self._names = cert, key, ca, names
        self._lock, self._next_check = threading.Lock(), 0.0
        self._seen = self._read_versions()
        self._current = self._read(version=1)

    def _read_versions(self) -> list[FileVersion | None]:
        paths = (self.cert_path, self.key_path, self.ca_path)
        return [None if path is None else read_file_version(path) for path in paths]

    def current(self) -> Certificates:
        """Return the newest contents that fit together. Blocks for as long as small files take to read."""
        with self._lock:
            if time.monotonic() >= self._next_check:
                self._next_check = time.monotonic() + CHECK_INTERVAL_S
                self._read_again()
            return self._current

    def _read_again(self) -> None:
        seen = self._read_versions()
        if seen == self._seen:
            return
        try:
            self._current = self._read(version=self._current.version + 1)
        except BadInput as error:
            log.warning("changed certificates are not used", reason=str(error))
            return
        self._seen = seen
        log.info("certificates read again", settings=", ".join(self._names))

    def _read(self, version: int) -> Certificates:
        """Raises BadInput."""
        cert, key, ca = (
            read_file(path, name)
            for path, name in zip((self.cert_path, self.key_path, self.ca_path), self._names, strict=True)
        )
        read = Certificates(cert, key, ca, version)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.cert_path is not None:
            try:
                context.load_cert_chain(self.cert_path, self.key_path, password=refuse_password)
            except (OSError, ValueError):  # SSLError is an OSError
                raise BadInput(
                    f"The certificate of {self._names[0]} and the key of {self._names[1]} cannot be used together.",
                    field=self._names[0],
                    remedy="Name a chain in PEM, the server's own certificate first, and its key without a password.",
                ) from None
        if ca is not None:
            load_authorities(context, read, self._names[2])
        return read


def refuse_password() -> str:
    """Keep OpenSSL from asking for the password of a key at the terminal."""
    raise ValueError("the key has a password")


def read_file(path: Path | None, name: str) -> bytes | None:
    """Raises BadInput that names the setting."""
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise BadInput(
            f"The file of {name} cannot be read: {error.strerror}.",
            field=name,
            remedy="Name a file in PEM that the user of the service may read.",
        ) from None


def load_authorities(context: ssl.SSLContext, certificates: Certificates, name: str) -> None:
    """Let a context trust these authorities alone. Raises BadInput that names the setting."""
    try:
        context.load_verify_locations(cadata=certificates.decode_ca())
        if not context.cert_store_stats()["x509"]:
            raise ValueError("no certificate")
    except (OSError, ValueError):
        raise BadInput(
            f"The file of {name} holds no certificates.",
            field=name,
            remedy="Name a file with the certificates of authorities, in PEM.",
        ) from None


SERVER_NAMES = ("SEGSERVE_TLS_CERT", "SEGSERVE_TLS_KEY", "SEGSERVE_TLS_CLIENT_CA")
ENCODER_NAMES = ("SEGSERVE_ENCODER_TLS_CERT", "SEGSERVE_ENCODER_TLS_KEY", "SEGSERVE_ENCODER_TLS_CA")


def open_server_files(settings: Settings) -> CertificateFiles | None:
    """Return the files of this process's own ports, None where they speak without TLS. Raises BadInput."""
    if settings.tls_cert is None and settings.tls_key is None:
        if settings.tls_client_ca is not None:
            raise BadInput(
                "SEGSERVE_TLS_CLIENT_CA is set without SEGSERVE_TLS_CERT.",
                field="tls_client_ca",
                remedy="Set SEGSERVE_TLS_CERT and SEGSERVE_TLS_KEY too: only TLS can ask for certificates.",
            )
        return None
    return CertificateFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca, SERVER_NAMES)


def open_encoder_files(settings: Settings) -> CertificateFiles | None:
    """Return the files of connections to encoder workers, None where these are not encrypted. Raises BadInput."""
    cert, key, ca = settings.encoder_tls_cert, settings.encoder_tls_key, settings.encoder_tls_ca
    if ca is None:
        if cert is not None or key is not None:
            raise BadInput(
                "A certificate for encoder workers is set without SEGSERVE_ENCODER_TLS_CA.",
                field="encoder_tls_ca",
                remedy="Set it to the authority of the encoder workers' certificates.",
            )
        return None
    return CertificateFiles(cert, key, ca, ENCODER_NAMES)
