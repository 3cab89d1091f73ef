"""Headers of pages: what a browser may do with them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.web.headers import security_headers


def policy(*targets: str, images: tuple[str, ...] = ()) -> dict[str, list[str]]:
    text = security_headers(targets, images=images)["Content-Security-Policy"]
    return {part.split()[0]: part.split()[1:] for part in text.split("; ")}


def test_nothing_is_allowed_but_our_own_files() -> None:
    assert policy() == {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'"],
        "form-action": ["'self'", "https:"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }


def test_the_other_headers_are_there() -> None:
    headers = security_headers()
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "Strict-Transport-Security" not in headers
    assert "Strict-Transport-Security" in security_headers(https=True)


@pytest.mark.parametrize(
    ("target", "sources"),
    [
        ("http://127.0.0.1:7777/callback?a=b", "http://127.0.0.1:* http://localhost:*"),
        ("http://localhost:8001", "http://127.0.0.1:* http://localhost:*"),
        ("http://localhost/callback", "http://127.0.0.1:* http://localhost:*"),
        ("HTTP://LocalHost:8001/", "http://127.0.0.1:* http://localhost:*"),
        ("http://127.0.0.2:7777/", "http://127.0.0.2:* http://127.0.0.1:* http://localhost:*"),
        ("http://sso.lan:8080/authorize", "http://sso.lan:8080"),
        ("http://localhost.evil.example:8080/", "http://localhost.evil.example:8080"),
        ("com.example.app:/callback", "com.example.app:"),
        ("com.example.app:", "com.example.app:"),
        ("http://[::1]:7777/callback", "http:"),
    ],
)
def test_a_form_may_end_at_loopback_or_at_the_private_scheme_of_the_client(target: str, sources: str) -> None:
    # Chromium and WebKit check every hop of the redirects behind a form against form-action: an app on loopback may
    # lead on to another port.
    assert policy(target)["form-action"] == ["'self'", "https:", *sources.split()]


@pytest.mark.parametrize(
    "target",
    [
        "https://shop.example/callback", "", "javascript:alert(1)", "data:text/html,x", "blob:x", "file:///etc/passwd", "http://",
        "http://a b/", "http://host;script-src *", "http://host:99999/", "http://user@/",
        "//host/path", "x y:", "'unsafe-inline'", "*",
    ],
)  # fmt: skip
def test_whatever_is_not_such_a_place_adds_nothing(target: str) -> None:
    assert policy(target)["form-action"] == ["'self'", "https:"]


@given(st.text(max_size=60))
def test_no_target_can_add_a_directive(target: str) -> None:
    found = policy(target, f"http://{target}", images=(target,))
    assert set(found) == set(policy())
    assert found["script-src"] == ["'self'"]


def test_pictures_may_come_from_a_place_only_when_it_is_named() -> None:
    assert policy(images=("http://localhost:8001/logo.png",))["img-src"] == ["'self'", "http://localhost:8001"]
