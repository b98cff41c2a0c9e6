import pytest

from segserve.errors import BadInput
from segserve.store.redis_connection import connect_redis
from segserve.store.redis_url import parse_cluster_url, parse_sentinel_url


def test_a_sentinel_url_names_sentinels_master_database_and_passwords() -> None:
    address = parse_sentinel_url(
        "rediss+sentinel://us%40er:pass@s1:26380,[::1]:5,s3/mymaster/2"
        "?sentinel_username=watch&sentinel_password=word&ssl_ca_certs=/ca.pem&health_check_interval=3"
    )
    assert address.sentinels == (("s1", 26380), ("::1", 5), ("s3", 26379))
    assert address.service == "mymaster"
    assert address.options == {
        "username": "us@er",
        "password": "pass",
        "db": 2,
        "ssl": True,
        "ssl_ca_certs": "/ca.pem",
        "health_check_interval": 3,
    }
    assert address.sentinel_options == {
        "username": "watch",
        "password": "word",
        "ssl": True,
        "ssl_ca_certs": "/ca.pem",
    }


def test_it_is_read_as_docket_reads_it() -> None:
    """The library of the jobs has the same form of URL, and connects by itself."""
    docket = pytest.importorskip("docket._redis_sentinel")
    url = "redis+sentinel://u:p@s1,s2:7/name/1?sentinel_password=w"
    theirs, ours = docket.parse_sentinel_url(url), parse_sentinel_url(url)
    assert tuple(theirs.sentinels) == ours.sentinels
    assert (theirs.service_name, theirs.db) == (ours.service, ours.options["db"])
    assert theirs.connection_kwargs == {name: ours.options[name] for name in ("username", "password")}
    assert theirs.sentinel_kwargs == ours.sentinel_options


def test_a_cluster_url_names_nodes_and_password() -> None:
    address = parse_cluster_url("redis+cluster://:pass@a:7000,b?socket_keepalive=yes")
    assert address.nodes == (("a", 7000), ("b", 6379))
    assert address.options == {"password": "pass", "socket_keepalive": True}
    assert parse_cluster_url("rediss+cluster://a/0").options == {"ssl": True}


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://:pa55@host:26379",
        "redis+sentinel://:pa55@host:26379/name/x",
        "redis+sentinel://:pa55@host:none/name",
        "redis+sentinel://:pa55@/name",
        "redis+sentinel://:pa55@host/name?unheard_of=1",
        "redis+cluster://:pa55@host/1",
        "redis+cluster://:pa55@",
        "redis+cluster://:pa55@host?unheard_of=1",
        "http://:pa55@host",
    ],
)
def test_other_urls_are_refused_by_the_name_of_the_setting_and_without_the_password(url: str) -> None:
    with pytest.raises(BadInput) as refusal:
        connect_redis(url, 1, "SEGSERVE_REDIS_URL")
    assert refusal.value.field == "SEGSERVE_REDIS_URL"
    assert "pa55" not in str(refusal.value)
