"""Where a browser may be sent, tried with what nobody would write by hand."""

from __future__ import annotations

from urllib.parse import parse_qsl, urljoin, urlsplit

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from broker.core.errors import BadRequest
from broker.core.redirects import acceptable, allowed, extend, local_path

anything = settings(deadline=None)
REGISTERED = (
    "https://shop.example/callback",
    "https://shop.example/callback?tenant=1",
    "http://127.0.0.1:8400/cb",
    "http://[::1]/cb",
    "http://127.0.0.1",
    "http://localhost:8400/cb",
    "com.example.app:/cb",
)
SCRAPS = st.sampled_from([
    "", "https://", "http://", "shop.example", "127.0.0.1", "[::1]", "localhost", ":8400", ":1", ":", "@", "/cb",
    "/callback", "/", "//", "..", "?", "#", "%2f", "\\", ".evil.example", "evil.example", "0", "\u0661", " ",
    "tenant=1",
])  # fmt: skip
PIECED = st.lists(SCRAPS, max_size=7).map("".join)
QUERY = st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text(
    st.characters(exclude_categories=["Cs"]))))  # fmt: skip


def mangled(uri: str) -> st.SearchStrategy[str]:
    """The same address with one thing put in, left out or doubled."""
    at = st.integers(0, len(uri))
    return st.tuples(at, at, SCRAPS).map(lambda cut: uri[: min(cut[:2])] + cut[2] + uri[max(cut[:2]) :])


@anything
@given(PIECED | st.sampled_from(REGISTERED).flatmap(mangled))
def test_only_what_is_registered_byte_by_byte_is_allowed(uri: str) -> None:
    assert allowed(uri, REGISTERED) == (uri in REGISTERED)


@anything
@given(PIECED | st.sampled_from(REGISTERED).flatmap(mangled))
def test_a_native_app_may_choose_the_port_of_a_loopback_literal_and_nothing_else(uri: str) -> None:
    assume(uri not in REGISTERED)
    if allowed(uri, REGISTERED, native=True):
        parts = urlsplit(uri)
        assert parts.hostname in ("127.0.0.1", "::1")
        assert "@" not in parts.netloc
        portless = {urlsplit(known)._replace(netloc=f"[{host}]" if ":" in host else host).geturl()
                    for known in REGISTERED if (host := urlsplit(known).hostname) in ("127.0.0.1", "::1")}  # fmt: skip
        assert parts._replace(netloc=parts.netloc.removesuffix(f":{parts.port}")).geturl() in portless


@anything
@given(st.integers(1, 65535), st.sampled_from(["127.0.0.1", "[::1]"]))
def test_every_port_of_a_loopback_literal_is_allowed_to_native_apps_alone(port: int, host: str) -> None:
    known = [f"http://{host}:8400/cb", f"http://{host}:8400"]
    for path in ("/cb", ""):
        uri = f"http://{host}:{port}{path}"
        assert allowed(uri, known, native=True)
        assert allowed(uri, known) == (port == 8400)


@anything
@given(st.integers(1, 65535))
def test_localhost_has_one_port(port: int) -> None:
    assert allowed(f"http://localhost:{port}/cb", ["http://localhost:8400/cb"], native=True) == (port == 8400)


@anything
@given(st.sampled_from([known for known in REGISTERED if acceptable(known) is None]), QUERY)
def test_what_is_added_to_an_address_leaves_the_rest_of_it_as_it_was(uri: str, more: list[tuple[str, str]]) -> None:
    longer = extend(uri, more)
    assert longer.startswith(uri)
    before, after = urlsplit(uri), urlsplit(longer)
    assert after._replace(query="") == before._replace(query="")
    assert parse_qsl(after.query, keep_blank_values=True) == parse_qsl(before.query, keep_blank_values=True) + more
    assert acceptable(longer) is None


def test_an_address_with_a_fragment_is_not_extended() -> None:
    with pytest.raises(BadRequest):
        extend("https://shop.example/#top", [("code", "1")])


@anything
@given(PIECED | st.text())
def test_an_address_that_can_be_registered_leads_to_one_place(uri: str) -> None:
    if acceptable(uri) is not None:
        return
    parts = urlsplit(uri)
    assert uri.isascii()
    assert uri.isprintable()
    assert " " not in uri
    assert "#" not in uri
    assert "\\" not in uri
    assert "@" not in parts.netloc or parts.scheme not in ("http", "https")
    assert parts.scheme != "http" or parts.hostname in ("localhost", "127.0.0.1", "::1")


@pytest.mark.parametrize(
    "uri", ["javascript:alert(1)", "data:text/html,x", "http://shop.example/", "shop:/cb", "https:/x", "https://a@b/",
            "https://a/#", "/cb", "https://ä.example/", "https://a/\x7f", "https://a:99999/", "https://[::1"],
)  # fmt: skip
def test_an_address_that_leads_astray_cannot_be_registered(uri: str) -> None:
    assert acceptable(uri) is not None


def as_browsers_read(path: str) -> str:
    """What the URL standard does before anything else: strips, drops tabs and newlines, turns backslashes."""
    inner = path.strip("".join(map(chr, range(0x21))))
    return inner.translate({9: None, 10: None, 13: None}).replace("\\", "/")


@anything
@given(st.lists(SCRAPS | st.sampled_from(["\t", "\n", "\r", "\0", "\x7f", "\u2028"]), max_size=6).map("/".join)
       | st.text() | st.text().map("/{}".format))  # fmt: skip
def test_a_local_path_never_leaves_our_origin(value: str) -> None:
    path = local_path(value, "/account")
    assert path in (value, "/account")
    read = as_browsers_read(path)
    assert not read.startswith("//")
    parts = urlsplit(urljoin("https://login.acme.example/t/acme/", read))
    assert (parts.scheme, parts.netloc) == ("https", "login.acme.example")


@pytest.mark.parametrize("value", ["/account", "/admin?search=%C3%A4", "/"])
def test_an_ordinary_path_is_taken(value: str) -> None:
    assert local_path(value, "/elsewhere") == value


@pytest.mark.parametrize("value", [None, "", "account", "//evil.example", "/\\evil.example", "https://evil.example",
                                   "/\t/evil.example", "/a\\b", "/\n/evil.example"])  # fmt: skip
def test_anything_else_is_the_default(value: str | None) -> None:
    assert local_path(value, "/elsewhere") == "/elsewhere"
