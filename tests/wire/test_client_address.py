"""Which addresses are one client, and whose word about it is taken."""

from ipaddress import ip_network

import pytest

from segserve.wire.client_address import client_of_address, is_in_networks, read_forwarded_for

PROXIES = [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        (None, "", True),
        (None, "192.0.2.1", False),
    ],
)
def test_a_client_is_an_address_or_a_64_of_ipv6(first: str | None, second: str | None, same: bool) -> None:
    assert (client_of_address(first) == client_of_address(second)) is same


def test_a_proxy_is_recognised_in_either_spelling() -> None:
    assert is_in_networks("10.1.2.3", PROXIES)
    assert is_in_networks("::ffff:10.1.2.3", PROXIES)
    assert is_in_networks("2001:db8::1", PROXIES)
    for address in ("11.1.2.3", "2001:db9::1", "", None, "nonsense"):
        assert not is_in_networks(address, PROXIES)


@pytest.mark.parametrize(
    ("header", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("198.51.100.7, 192.0.2.1, 10.0.0.1", "192.0.2.1"),
        ("10.0.0.2, 10.0.0.1", None),
        (" , ", None),
    ],
)
def test_the_last_address_that_is_no_proxy_is_the_client(header: str, client: str | None) -> None:
    assert read_forwarded_for(header, PROXIES) == client
