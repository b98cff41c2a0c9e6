"""TLS for gRPC, with certificates that follow their files. gRPC speaks TLS 1.2 or later."""

from typing import Any, TypeAlias

import grpc

from segserve.wire.tls_files import CertificateFiles, Certificates

Credentials: TypeAlias = Any  # grpc has no types


def create_server_credentials(files: CertificateFiles) -> Credentials:
    """Return what a server shows, and asks of clients: a certificate, where there are authorities for those."""

    def configure(certificates: Certificates) -> Any:
        return grpc.ssl_server_certificate_configuration(
            [(certificates.key, certificates.cert)], root_certificates=certificates.ca
        )

    first = files.current()
    version = first.version

    def fetch() -> Any:
        """Return what has changed, or None. gRPC calls it in each handshake, in one thread after the other."""
        nonlocal version
        newest = files.current()
        if newest.version == version:
            return None
        version = newest.version
        return configure(newest)

    return grpc.dynamic_ssl_server_credentials(
        configure(first), fetch, require_client_authentication=first.ca is not None
    )


def create_channel_credentials(certificates: Certificates) -> Credentials:
    """Return what a client shows, if it has a certificate, and the authorities that it trusts."""
    return grpc.ssl_channel_credentials(certificates.ca, certificates.key, certificates.cert)
