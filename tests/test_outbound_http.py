"""Requests go to allowed hosts with public addresses only, however a URL spells them (SSRF)."""

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path

import pytest

from segserve import outbound_http
from segserve.errors import BadInput, FetchFailed, NotAllowed, SegserveError
from segserve.outbound_http import is_public
from tests.images.http_site import HERE, IMAGE, INNER, FakeResolver, Site, expect_refusal, fetch


@pytest.fixture
def site() -> Iterator[Site]:
    with closing(Site(HERE)) as running:
        yield running


NOT_PUBLIC = [
    *("127.0.0.1", "127.1.2.3", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1"),
    *("169.254.169.254", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "198.18.0.1"),
    *("::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "::7f00:1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::ffff:0.0.0.0"),
    *("2002:7f00:1::", "2002:a9fe:a9fe::1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1"),
    *("2001::1", "100::1"),
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))
    with expect_refusal(NotAllowed, "not public"):
        fetch(
            "http://images.test/", "images.test", private=False, resolve=FakeResolver(images_test=[address])
        )
    mixed = FakeResolver(images_test=[f"1.1.1.1 {address}"])
    with expect_refusal(NotAllowed, "not public"):
        fetch("http://images.test/", "images.test", private=False, resolve=mixed)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"],
)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(ip_address(address))


SPELLINGS = [
    *(
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "017700000001",
        "127.1",
        "0",
        "0.0.0.0",
    ),
    *(
        "169.254.169.254",
        "2852039166",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::]",
        "127。0。0。1",
    ),
]


@pytest.mark.parametrize("host", SPELLINGS)
def test_spellings_of_addresses_of_this_machine(site: Site, host: str) -> None:
    """Each spelling is on the allowlist by mistake; still the address that it resolves to is checked."""
    with expect_refusal(NotAllowed, "not public"):
        fetch(f"http://{host}:{site.port}/", host.strip("[]"), HERE, private=False)
    assert site.requests == []


@pytest.mark.parametrize("host", ["localhost.", "127.0.0.1.", "１２７.0.0.1", "%6c%6f%63alhost"])
def test_spellings_that_not_every_system_reads(site: Site, host: str) -> None:
    with pytest.raises(SegserveError) as raised:
        fetch(f"http://{host}:{site.port}/", host, "localhost", HERE, private=False)
    assert raised.value.field == "url"
    assert site.requests == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///etc/passwd", "scheme"),
        ("file://127.0.0.1/etc/passwd", "'file'"),
        ("ftp://127.0.0.1/x", "'ftp'"),
        ("gopher://127.0.0.1/x", "'gopher'"),
        ("data:image/png;base64,AAAA", "'data'"),
        ("/etc/passwd", "no host"),
        ("", "no host"),
        ("http://", "no host"),
        ("http:///x", "no host"),
        ("http://user@127.0.0.1/", "credentials"),
        ("http://user:secret@127.0.0.1/", "credentials"),
        ("http://127.0.0.1:x/", "not a URL"),
        ("http://127.0.0.1/\r\nHost: other", "not a URL"),
        ("http://127.0.0.1\x00.images.test/", "not a URL"),
        ("http://[::1", "not a URL"),
        ("http://999.1.1.1/", "not a URL"),
        ("http://127.0.0.1:70000/", "port"),
        ("http://127.0.0.1:0/", "port"),
    ],
)
def test_urls_that_are_never_requested(url: str, words: str) -> None:
    with pytest.raises(BadInput, match=words) as raised:
        fetch(url, HERE)
    assert (type(raised.value), raised.value.field) == (BadInput, "url")


def test_a_name_is_resolved_once_against_dns_rebinding(site: Site) -> None:
    """A connection by name would resolve it again, and go to the second answer."""
    with closing(Site(INNER, port=site.port)) as inner:
        names = FakeResolver(images_test=[HERE, INNER])
        assert fetch(f"http://images.test:{site.port}/", "images.test", resolve=names) == IMAGE
        assert names.resolved == ["images.test"]
        assert site.requests == [(f"images.test:{site.port}", "/")]
        assert inner.requests == []


def test_the_next_address_is_tried_if_one_does_not_answer(site: Site) -> None:
    names = FakeResolver(images_test=[f"::1 127.0.0.3 {HERE}"])
    assert fetch(f"http://images.test:{site.port}/", "images.test", resolve=names) == IMAGE


def test_proxies_of_the_environment_are_ignored(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch(site.url, HERE) == IMAGE


def test_hosts_must_be_on_the_allowlist(site: Site) -> None:
    names = FakeResolver(images_test=[HERE], a_images_test=[HERE], a_b_images_test=[HERE])

    def request(host: str, *hosts: str) -> bytes:
        return fetch(f"http://{host}:{site.port}/", *hosts, resolve=names)

    assert request("images.test", "images.test") == IMAGE
    assert request("IMAGES.test", "Images.Test") == IMAGE
    assert request("a.images.test", "*.images.test") == IMAGE
    assert request("a.b.images.test", "*.images.test") == IMAGE
    resolved = len(names.resolved)
    for host in ("images.test", "evilimages.test", "images.test.evil.test", "x.test", HERE):
        with expect_refusal(NotAllowed, "may not be fetched"):
            request(host, "*.images.test")
    assert len(names.resolved) == resolved, "a name that is not allowed is never resolved"
    with expect_refusal(NotAllowed, "off"):
        request("images.test")


def test_a_port_that_nobody_listens_on() -> None:
    with closing(Site(HERE)) as gone:
        pass
    with expect_refusal(FetchFailed, "cannot be connected to"):
        fetch(gone.url, HERE)


def test_an_unknown_name() -> None:
    with expect_refusal(FetchFailed, "has no address"):
        fetch("http://nowhere.invalid/", "nowhere.invalid")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Create a self-signed certificate of images.test, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path / "images.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=images.test -addext"
    parts = [
        *command.split(),
        "subjectAltName=DNS:images.test",
        "-keyout",
        str(path),
        "-out",
        str(path) + ".crt",
    ]
    subprocess.run(parts, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(str(path) + ".crt").read_text())
    return path


def test_tls_verifies_the_name_and_not_the_address(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str | None] = []
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(certificate)
    ours.sni_callback = lambda _, name, __: names.append(name)
    theirs = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(outbound_http.httpx, "create_ssl_context", lambda **_: theirs)
    resolver = FakeResolver(images_test=[HERE], other_test=[HERE])
    with closing(Site(HERE, tls=ours)) as site:
        url = f"https://{{}}:{site.port}/"
        assert fetch(url.format("images.test"), "*.test", "images.test", resolve=resolver) == IMAGE
        assert names == ["images.test"]
        with expect_refusal(FetchFailed, "cannot be connected to"):
            fetch(url.format("other.test"), "other.test", resolve=resolver)
        assert len(site.requests) == 1
