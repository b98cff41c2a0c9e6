"""TLS of REST and gRPC, certificates that change, and mutual TLS with clients and encoder workers."""

import socket
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from segserve.errors import BadInput
from segserve.settings import Settings
from segserve.v1 import segmentation_pb2, segmentation_pb2_grpc
from segserve.wire.tls_files import open_encoder_files, open_server_files
from segserve_client import Client, Unreachable
from tests.certificates import Authority
from tests.conftest import ExternalRedis
from tests.serving import Encoder, Server

WAIT_S = 30


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


class TlsServer(Server):
    """A service with certificates of an authority, which asks clients for one."""

    def __init__(self, data_dir: Path, authority: Authority, **env: str) -> None:
        self.authority = authority
        cert, key = authority.sign("server")
        self.pair = authority.sign("client")
        super().__init__(
            data_dir,
            tls=authority.context(*self.pair),
            tls_cert=str(cert),
            tls_key=str(key),
            tls_client_ca=str(authority.ca),
            grpc_port="0",
            operator_port="0",
            header_timeout_s="2",
            **env,
        )

    def open_link(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        address = httpx.URL(self.url)
        link = socket.create_connection((address.host, address.port or 0), timeout=WAIT_S)
        return context.wrap_socket(link, server_hostname="localhost")

    def serial(self) -> str:
        """Return the number of the certificate that a new connection is shown."""
        with self.open_link(self.authority.context(*self.pair)) as link:
            certificate: Any = link.getpeercert()
            return str(certificate["serialNumber"])

    def grpc_models(self, *pair: Path) -> int:
        """Return how many models gRPC lists. pair: of the client. Raises RpcError."""
        key, cert = (pair[1].read_bytes(), pair[0].read_bytes()) if pair else (None, None)
        credentials = grpc.ssl_channel_credentials(self.authority.ca.read_bytes(), key, cert)
        with grpc.secure_channel(self.grpc_address(), credentials) as channel:
            stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
            return len(stub.ListModels(segmentation_pb2.ListModelsRequest(), timeout=WAIT_S).models)


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    running = TlsServer(tmp_path_factory.mktemp("tls"), authority)
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


def test_rest_and_grpc_answer_clients_with_a_certificate(server: TlsServer, nuclei: Path) -> None:
    assert server.url.startswith("https://")
    image_id = server.upload(nuclei)
    assert server.click(image_id, 413, 190).status_code == 200
    assert server.grpc_models(*server.pair) > 0


def test_clients_without_a_certificate_of_the_authority_are_refused(
    server: TlsServer, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "other")
    pair = stranger.sign("client")
    for context in (authority.context(), authority.context(*pair)):
        with pytest.raises(httpx.TransportError), httpx.Client(verify=context) as client:
            client.get(f"{server.url}/v1/models")
    for arguments in ((), pair):
        with pytest.raises(grpc.RpcError):
            server.grpc_models(*arguments)


def test_probes_and_prometheus_need_none(server: TlsServer, authority: Authority) -> None:
    url = server.find_address(r"operators at (https://\S+)")
    with httpx.Client(verify=authority.context()) as client:
        assert client.get(f"{url}/livez").status_code == 200
        assert client.get(f"{url}/metrics").status_code == 200


def test_http_without_tls_and_old_tls_are_refused(server: TlsServer) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(server.url.replace("https", "http"))
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        server.open_link(old)
    new = server.authority.context(*server.pair)
    new.maximum_version = ssl.TLSVersion.TLSv1_2
    with server.open_link(new) as link:
        assert link.version() == "TLSv1.2"


def test_a_renewed_certificate_is_shown_to_new_connections_and_ends_no_old_one(server: TlsServer) -> None:
    with httpx.Client(base_url=server.url, verify=server.authority.context(*server.pair)) as client:
        assert client.get("/livez").status_code == 200
        link = client.get("/livez").extensions["network_stream"].get_extra_info("socket")
        before = server.serial()
        server.authority.sign("server")
        wait_until(lambda: server.serial() != before)
        answer = client.get("/livez")
        assert answer.status_code == 200
        same = answer.extensions["network_stream"].get_extra_info("socket")
        assert same is link
    assert server.grpc_models(*server.pair) > 0


def test_a_certificate_without_its_key_is_not_taken(server: TlsServer) -> None:
    """As in the moment when one of two files is written already."""
    key = server.authority.folder / "server.key"
    before, kept = server.serial(), key.read_bytes()
    server.authority.sign("server")
    new = key.read_bytes()
    key.write_bytes(kept)
    # Files are looked at when a connection begins.
    wait_until(lambda: server.serial() == before and "are not used" in server.log.read_text())
    assert server.serial() == before
    key.write_bytes(new)
    wait_until(lambda: server.serial() != before)


def test_handshakes_that_never_end_are_ended(server: TlsServer) -> None:
    address = httpx.URL(server.url)
    links = [socket.create_connection((address.host, address.port or 0)) for _ in range(20)]
    for link in links:
        link.settimeout(WAIT_S)
        assert link.recv(1) == b""
        link.close()
    assert server.client.get("/livez").status_code == 200
    assert server.metric('segserve_rejections_total{reason="tls"}') >= len(links)


def test_the_client_of_python_takes_an_authority_and_a_certificate(
    server: TlsServer, authority: Authority
) -> None:
    with Client(server.url, verify=authority.context(*server.pair)) as client:
        assert client.models()
    with Client(server.url) as client, pytest.raises(Unreachable, match="certificate"):
        client.models()


def test_encoder_workers_answer_only_those_that_they_know(
    authority: Authority, tmp_path: Path, redis: ExternalRedis, nuclei: Path, noise: bytes
) -> None:
    cert, key = authority.sign("encoder")
    shared = {"redis_url": redis.url, "object_store": f"file://{tmp_path}/objects", "encode_threads": "1"}
    (tmp_path / "objects").mkdir()
    worker = Encoder(
        tmp_path / "encoder",
        tls=authority.context(),
        tls_cert=str(cert),
        tls_key=str(key),
        tls_client_ca=str(authority.ca),
        **shared,
    )
    pair = authority.sign("api")
    names = {"encoder_tls_ca": authority.ca, "encoder_tls_cert": pair[0], "encoder_tls_key": pair[1]}
    url = f"ipv4:{worker.target}"
    known = Server(
        tmp_path / "known", encoder_url=url, **shared, **{name: str(path) for name, path in names.items()}
    )
    unknown = Server(
        tmp_path / "unknown",
        encoder_url=url,
        encode_timeout_s="3",
        **{**shared, "encoder_tls_ca": str(authority.ca)},
    )
    for process in (worker, known, unknown):
        process.wait_ready()
    image_id, other = known.upload(nuclei), known.upload(noise)
    assert unknown.click(image_id, 413, 190).status_code == 503
    assert known.click(image_id, 413, 190).status_code == 200
    authority.sign("api")
    time.sleep(1.5)  # files are looked at once a second
    assert known.click(other, 10, 10).status_code == 200
    assert "certificates read again" in known.log.read_text()
    for process in (worker, known, unknown):
        assert process.stop() == 0, process.log.read_text()


def test_files_that_cannot_be_used_are_told_by_their_setting(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.sign("server")
    other_key = authority.sign("other")[1]
    broken = tmp_path / "broken"
    broken.write_text("nothing")
    for options, name in (
        ({"tls_cert": cert}, "SEGSERVE_TLS_KEY"),
        ({"tls_key": key}, "SEGSERVE_TLS_CERT"),
        ({"tls_cert": cert, "tls_key": other_key}, "SEGSERVE_TLS_CERT"),
        ({"tls_cert": tmp_path / "none", "tls_key": key}, "SEGSERVE_TLS_CERT"),
        ({"tls_cert": broken, "tls_key": key}, "SEGSERVE_TLS_CERT"),
        ({"tls_cert": cert, "tls_key": key, "tls_client_ca": broken}, "SEGSERVE_TLS_CLIENT_CA"),
        ({"tls_client_ca": authority.ca}, "SEGSERVE_TLS_CLIENT_CA"),
    ):
        with pytest.raises(BadInput, match=name):
            open_server_files(Settings(**options))
    with pytest.raises(BadInput, match="SEGSERVE_ENCODER_TLS_CA"):
        open_encoder_files(Settings(encoder_tls_cert=cert, encoder_tls_key=key))
    assert open_server_files(Settings()) is None
    assert open_encoder_files(Settings()) is None
