"""Addresses of the key-value store: their grammar, and a server with TLS, a client certificate and users."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from broker.core.errors import Unavailable
from broker.core.store_address import Kind, parse_store_address
from broker.settings.addresses import without_password
from broker.stores.kv.inspection import inspect
from broker.stores.kv.redis import RedisKeyValue
from tests.kv_engines import server
from tests.kv_servers import guarded
from tests.servers import ROOT
from tests.stores_kv.journey import everything_that_is_done_with_a_login

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "kind", "hosts"),
    [
        ("redis://cache", Kind.SERVER, (("cache", 6379),)),
        ("redis://cache:7000/3", Kind.SERVER, (("cache", 7000),)),
        ("rediss://ada:s%2Fcret@[::1]:7000", Kind.SERVER, (("::1", 7000),)),
        ("unix:///run/valkey%20one.sock?db=2", Kind.SOCKET, ()),
        ("redis+sentinel://a,b:7000/main", Kind.SENTINEL, (("a", 26379), ("b", 7000))),
        ("rediss+sentinel://:p@a/main?sentinel_password=q&replicas=2", Kind.SENTINEL, (("a", 26379),)),
        ("redis+cluster://a:7000,b,[::1]:7001", Kind.CLUSTER, (("a", 7000), ("b", 6379), ("::1", 7001))),
        ("rediss+cluster://a?ca_bundle=/ca.pem&certificate=/c.pem&key=/k.pem", Kind.CLUSTER, (("a", 6379),)),
    ],
)
def test_an_address_says_what_is_where(text: str, kind: Kind, hosts: tuple[tuple[str, int], ...]) -> None:
    address = parse_store_address(text)
    assert (address.kind, address.hosts) == (kind, hosts)
    assert address.tls is text.startswith("rediss")


def test_what_an_address_says_of_login_database_and_files_is_understood() -> None:
    address = parse_store_address(
        "rediss+sentinel://ada:s%2Fcret@a/main?db=3&sentinel_password=q&ca_bundle=/ca&replicas=0"
    )
    assert (address.username, address.service, address.database, address.ca_bundle) == ("ada", "main", 3, "/ca")
    assert address.password is not None
    assert address.password.reveal() == "s/cret"
    assert address.sentinel_password is not None
    assert address.sentinel_password.reveal() == "q"
    assert address.replicas == 0
    assert parse_store_address("redis://a").replicas is None


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "not a key-value store we know"),
        ("http://cache", "not a key-value store we know"),
        ("redis://", "no host"),
        ("redis://cache:port", "no host"),
        ("redis://a,b", "several hosts"),
        ("redis://cache/one", "database"),
        ("unix://", "no socket"),
        ("unix://run/valkey.sock", "no socket"),
        ("redis+sentinel://a", "no service"),
        ("redis+cluster://a,/", "no host"),
        ("redis+cluster://a/1", "a cluster has one only"),
        ("redis://cache?ca_bundle=/ca.pem", "do not know"),
        ("rediss://cache?ca_bundle=ca.pem", "absolute"),
        ("rediss://cache?key=/key.pem", "without a certificate"),
        ("redis://cache?replicas=many", "number of replicas"),
        ("redis://cache?db=", "do not know"),
        ("redis+sentinel://a/main?db=", "without a value"),
    ],
)
def test_a_wrong_address_is_told_what_would_be_right_and_no_password(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse_store_address(text)
    scheme, _, rest = text.partition("://")
    with pytest.raises(ValueError) as told:
        parse_store_address(f"{scheme}://ada:CANARY@{rest}")
    assert "CANARY" not in str(told.value)


def test_an_address_is_shown_without_its_passwords() -> None:
    shown = without_password("redis+sentinel://ada:CANARY@a:1,b:2/main?sentinel_password=CANARY&db=3")
    assert shown == "redis+sentinel://ada:***@a:1,b:2/main?sentinel_password=***&db=3"
    assert without_password("redis+cluster://:CANARY@a:1,b:2") == "redis+cluster://:***@a:1,b:2"


@pytest.fixture(scope="module")
def secured() -> Iterator[tuple[str, Path]]:
    with guarded("redis") as told:
        yield told


def test_a_server_with_tls_users_and_client_certificates(secured: tuple[str, Path]) -> None:
    host, files = secured
    options = f"ca_bundle={files}/ca.crt&certificate={files}/client.crt&key={files}/client.key"
    with contextlib.closing(RedisKeyValue.connect(f"rediss://homerealm:s3cret%2F%25@{host}?{options}")) as kv:
        for round in range(3):
            kv.put("ticket", bytes(100_000), HOUR)
            assert kv.take("ticket") == bytes(100_000), round
            assert kv.take("ticket") is None
            kv.close()


@pytest.mark.parametrize(
    ("login", "options", "why"),
    [
        ("homerealm:s3cret%2F%25@", "certificate={0}/client.crt&key={0}/client.key", "(?i)certificate"),
        ("homerealm:s3cret%2F%25@", "ca_bundle={0}/ca.crt", "(?i)certificate|closed|reset|violation of protocol"),
        (
            "homerealm:CANARY@",
            "ca_bundle={0}/ca.crt&certificate={0}/client.crt&key={0}/client.key",
            "(?i)password",
        ),
        ("", "ca_bundle={0}/ca.crt&certificate={0}/client.crt&key={0}/client.key", "(?i)authentication"),
        ("homerealm:s3cret%2F%25@", "ca_bundle={0}/missing.crt", "(?i)no such file"),
    ],
)
def test_what_tls_or_the_server_refuses_is_said_without_a_password(
    secured: tuple[str, Path], login: str, options: str, why: str
) -> None:
    host, files = secured
    url = f"rediss://{login}{host}?{options.format(files)}"
    with contextlib.closing(RedisKeyValue.connect(url)) as kv, pytest.raises(Unavailable, match=why) as told:
        kv.get("a")
    assert "CANARY" not in str(told.value)
    assert "s3cret" not in str(told.value)


def test_a_database_and_a_socket_are_used() -> None:
    with server("redis") as url:
        with contextlib.closing(RedisKeyValue.connect(url)) as kv:
            kv.put("a", b"1", HOUR)
            assert kv.get("a") == b"1"
        with (
            contextlib.closing(RedisKeyValue.connect(f"{url}?db=9")) as kv,
            pytest.raises(Unavailable, match="DB index"),
        ):
            kv.get("a")


def test_the_permissions_that_the_guide_names_are_enough() -> None:
    guide = (ROOT / "docs" / "guides" / "operators.md").read_text("utf-8")
    rules = re.findall(r"needs `(~\* [^`]+)`", guide)[0].split()
    with server("redis") as url:
        with contextlib.closing(RedisKeyValue.connect(url)) as kv:
            kv.everywhere("ACL", "SETUSER", "homerealm", "on", ">pass", *rules)
        limited = f"{url.replace('unix://', 'unix://homerealm:pass@')}?replicas=0"
        with contextlib.closing(RedisKeyValue.connect(limited)) as kv:
            everything_that_is_done_with_a_login(kv)
            inspect(kv)
            for command in (("ROLE",), ("WAIT", 0, 10)):
                kv.everywhere(*command)
            with pytest.raises(Unavailable, match="no permissions"):
                kv.everywhere("CONFIG", "GET", "dir")
