"""Issuers whose certificate is of a private authority: the setting `ca_file`."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from segserve.app.issuer_documents import IssuerDocuments
from segserve.errors import BadInput
from segserve.identity.issuer_keys import IssuerUnavailable
from segserve.identity.oidc import TokenAuthenticator
from segserve.identity.oidc_issuer import OidcIssuer
from tests.certificates import Authority
from tests.http_listener import listening
from tests.identity.fake_issuer import AUDIENCE, FakeIssuer


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def issuer(authority: Authority) -> Iterator[FakeIssuer]:
    issuer = FakeIssuer()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.sign("issuer"))
    issuer.socket = context.wrap_socket(issuer.socket, server_side=True)
    issuer.url = f"https://127.0.0.1:{issuer.server_port}"
    with listening(issuer):
        yield issuer


def configure(issuer: FakeIssuer, ca_file: Path | None) -> OidcIssuer:
    return OidcIssuer(issuer=issuer.url, audience=AUDIENCE, ca_file=ca_file)


def verify(issuer: FakeIssuer, known: OidcIssuer, documents: IssuerDocuments) -> str:
    """Return whose token it is, by keys that are fetched anew."""
    return asyncio.run(TokenAuthenticator([known], documents.fetch).authenticate(issuer.token())).name


def test_its_certificate_is_checked_by_the_file_which_is_read_again(
    issuer: FakeIssuer, authority: Authority, tmp_path: Path
) -> None:
    file = tmp_path / "authorities.pem"
    file.write_bytes(Authority(tmp_path, "another").ca.read_bytes())
    known = configure(issuer, file)
    documents = IssuerDocuments([known])
    with pytest.raises(IssuerUnavailable):
        verify(issuer, known, documents)
    file.write_bytes(authority.ca.read_bytes())
    assert verify(issuer, known, documents) == "anna"
    file.write_text("broken")
    assert verify(issuer, known, documents) == "anna", "what was read before stays"
    status, _ = asyncio.run(documents.post(f"{issuer.url}/token", {"code": "x"}, {}))
    assert status == 401


def test_public_authorities_do_not_know_it(issuer: FakeIssuer) -> None:
    known = configure(issuer, None)
    with pytest.raises(IssuerUnavailable):
        verify(issuer, known, IssuerDocuments([known]))


def test_settings_name_what_is_wrong(issuer: FakeIssuer, authority: Authority, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for file in (empty, tmp_path / "missing.pem"):
        with pytest.raises(BadInput, match="no certificates that can be read") as caught:
            IssuerDocuments([configure(issuer, file)])
        assert caught.value.field == "oidc_issuers"
    with pytest.raises(BadInput, match="different files"):
        IssuerDocuments([configure(issuer, authority.ca), configure(issuer, None)])
