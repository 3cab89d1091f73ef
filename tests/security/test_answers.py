"""What is said when something goes wrong: pages with a reference and one button for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from broker.core.errors import Busy
from broker.stores.kv.embedded import EmbeddedValkey
from broker.testing.browser import Browser
from broker.testing.town import PASSWORD, Town
from tests.stories.journeys import (
    NEW,
    at_the_app,
    choose_password,
    forget,
    open_app,
    reset_link,
    sign_in,
    type_identifier,
    type_password,
)
from tests.tokens import authorize_url

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def refused(town: Town, method: str, path: str, **how: object) -> tuple[int, str]:
    answer = town.world.send(method, f"{town.broker.base}/t/acme{path}", **how)  # type: ignore[arg-type]
    assert answer.mimetype == "application/json", answer.get_data(as_text=True)[:200]
    assert "traceback" not in answer.get_data(as_text=True).lower()
    return answer.status_code, (answer.json or {})["error"]


@pytest.mark.parametrize("path", ["/token", "/revoke", "/introspect", "/userinfo"])
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"grant_type": "authorization_code"}'),
        ("multipart/form-data; boundary=x", b"--x--"),
        ("application/x-www-form-urlencoded", b"a=" + b"x" * 70_000),
        ("application/x-www-form-urlencoded", b"a=%ff"),
        ("application/x-www-form-urlencoded", b"a=%00"),
        ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % n for n in range(200))),
    ],
)
def test_programs_get_json_for_a_body_that_cannot_be_right(
    town: Town, path: str, content_type: str, body: bytes
) -> None:
    """RFC 6749 5.2: 400 and `invalid_request`, also before the endpoint itself has seen the request."""
    assert refused(town, "POST", path, headers={"Content-Type": content_type}, body=body) == (400, "invalid_request")


@pytest.mark.parametrize("path", ["/token", "/revoke", "/introspect"])
def test_programs_get_json_for_a_method_that_is_not_there(town: Town, path: str) -> None:
    assert refused(town, "GET", path) == (405, "invalid_request")


def test_people_get_a_page_with_the_status_that_says_it(town: Town) -> None:
    url = f"{town.broker.base}/t/acme/login"
    for headers, body, status in (
        (FORM, b"a=" + b"x" * 70_000, 413),
        ({"Content-Type": "application/json"}, b"{}", 415),
        (FORM, b"a=%ff", 400),
    ):
        answer = town.world.send("POST", url, headers=headers, body=body)
        assert (answer.status_code, answer.mimetype) == (status, "text/html")
        assert 'data-page="error"' in answer.get_data(as_text=True)
        assert "Reference for support:" in answer.get_data(as_text=True)
    put = town.world.send("PUT", url, headers=FORM, body=b"")
    assert put.status_code == 405
    assert "POST" in put.headers["Allow"]


@pytest.mark.parametrize("path", ["/token", "/userinfo", "/revoke", "/jwks", "/.well-known/openid-configuration"])
def test_apps_in_browsers_may_call_what_is_made_for_them(town: Town, path: str) -> None:
    url = f"{town.broker.base}/t/acme{path}"
    asked = {"Origin": "https://spa.test", "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "authorization,content-type"}  # fmt: skip
    preflight = town.world.send("OPTIONS", url, headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    assert {"authorization", "content-type"} <= set(
        preflight.headers["Access-Control-Allow-Headers"].lower().split(", ")
    )
    method = "POST" if path in ("/token", "/revoke") else "GET"
    answer = town.world.send(method, url, headers={"Origin": "https://spa.test"} | (FORM if method == "POST" else {}))
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("path", ["/authorize", "/login", "/account", "/introspect", "/end-session"])
def test_and_nothing_else(town: Town, path: str) -> None:
    answer = town.world.send("OPTIONS", f"{town.broker.base}/t/acme{path}", headers={"Origin": "https://spa.test"})
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_page_that_is_too_old_has_one_button_that_starts_again_with_the_app_kept(town: Town) -> None:
    browser = town.browser()
    page = type_identifier(open_app(browser), "ada")
    town.later(hours=3)
    old = type_password(page)
    assert (old.data_page, old.data_code, old.status) == ("error", "transaction.gone", 400)
    fresh = old.click("Start again")
    assert fresh.data_page == "login"
    assert at_the_app(type_password(type_identifier(fresh, "ada")), "ada@acme.test")


def test_a_form_that_was_sent_twice_leads_to_the_app_as_well(town: Town) -> None:
    browser = town.browser()
    page = type_identifier(open_app(browser), "ada")
    assert at_the_app(type_password(page), "ada@acme.test")
    again = type_password(page)
    assert again.data_code == "transaction.finished"
    assert at_the_app(again.click("Start again"), "ada@acme.test")


def test_a_form_of_a_session_that_is_over_says_that_the_page_is_too_old(town: Town) -> None:
    browser = town.browser()
    sign_in(browser, "ada")
    page = browser.go(f"{town.broker.base}/t/acme/account/password")
    browser.go(f"{town.broker.base}/t/acme/account").form(action="/end-session").submit()
    filled = page.form(field="new-password").fill({"current-password": PASSWORD, "new-password": NEW})
    late = filled.submit()
    assert late.data_code == "session.gone"
    assert "too old" in late.text
    assert late.link("Start again").href.endswith("/t/acme/account")


def test_a_full_hash_pool_says_when_to_come_back_and_decides_nothing(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed_in = town.browser()
    sign_in(signed_in, "ada")
    own = signed_in.go(f"{town.broker.base}/t/acme/account/password")
    browser = town.browser()
    forget(open_app(browser), "ada")
    reset = browser.go(reset_link(town, "ada@acme.test"))
    login = type_identifier(open_app(town.browser()), "ada")

    def full(*_: object) -> bool:
        raise Busy(retry_after=3)

    with monkeypatch.context() as at_work:
        at_work.setattr(town.broker.runtime.engines.hasher, "verify", full)
        filled = own.form(field="new-password").fill({"current-password": PASSWORD, "new-password": NEW})
        for page in (type_password(login), filled.submit(), choose_password(reset)):
            assert page.status == 503
            assert int(page.headers["retry-after"]) > 0
            assert page.forms, "the form is still there"
    assert at_the_app(choose_password(reset), "ada@acme.test")


def test_a_link_that_is_tried_too_often_keeps_its_form(town: Town) -> None:
    browser = town.browser()
    forget(open_app(browser), "ada")
    page = browser.go(reset_link(town, "ada@acme.test"))
    for _ in range(62):
        last = choose_password(page, "short")
    assert last.status == 429
    assert int(last.headers["retry-after"]) > 0
    assert last.data_page == "reset"
    town.later(minutes=5)
    assert at_the_app(choose_password(last), "ada@acme.test")


def test_when_the_key_value_store_is_gone_nobody_is_let_in_and_everybody_is_told(
    build_town: Callable[..., Town], key_values: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = EmbeddedValkey(tmp_path_factory.mktemp("mortal"))
    url = server.start()
    town = build_town()
    town.close()
    town.closing.clear()
    mortal = Town(Path(town.folder).with_name("mortal"), (url, key_values[1]), seed="mortal")
    try:
        mortal.broker.add("acme", email="ada@acme.test", username="ada")
        browser: Browser = mortal.browser()
        page = type_identifier(open_app(browser), "ada")
        server.stop()
        answers = [
            type_password(page),
            browser.go(authorize_url(mortal)),
            browser.go(f"{mortal.broker.base}/t/acme/login"),
        ]
        for answer in answers:
            assert (answer.status, answer.data_page, answer.data_code) == (503, "error", "service.unavailable")
            assert "Reference for support:" in answer.text
            assert int(answer.headers["retry-after"]) > 0
        told = mortal.world.send(
            "POST", f"{mortal.broker.base}/t/acme/token", headers=FORM,
            body=b"grant_type=authorization_code&code=x&client_id=demo",
        )  # fmt: skip
        assert told.mimetype == "application/json"
        assert mortal.world.send("GET", f"{mortal.broker.base}/healthz").status_code == 200
        ready = mortal.world.send("GET", f"{mortal.broker.base}/readyz")
        assert (ready.status_code, ready.json["missing"]) == (503, ["key_value"])
    finally:
        mortal.close()


def test_an_old_password_that_is_being_compared_while_a_new_one_is_saved_signs_nobody_in(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "After the answer nothing older lives": a login that began before it does not get a session after it."""
    browser = town.browser()
    forget(open_app(browser), "ada")
    reset = browser.go(reset_link(town, "ada@acme.test"))
    attacker = type_identifier(open_app(town.browser("198.51.100.1")), "ada")
    hasher = town.broker.runtime.engines.hasher
    compare = hasher.verify
    done: list[bool] = []

    def slowly(password: str, stored: str | None) -> bool:
        right = compare(password, stored)
        if password == PASSWORD and not done:
            done.append(True)
            assert at_the_app(choose_password(reset), "ada@acme.test")
        return right

    monkeypatch.setattr(hasher, "verify", slowly)
    late = type_password(attacker)
    assert done
    assert late.data_page == "password"
    assert late.status == 422
