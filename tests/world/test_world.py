"""The instruments of the stories are strict where real browsers are."""

from __future__ import annotations

import pytest
from flask import Flask, make_response, redirect, request

from broker.core.errors import ConnectionFailed
from broker.testing.world import BlockedByPolicy, Browser, UnknownHost, World, WorldFetcher

PAGE = """<!doctype html><html><head><title>Sign in - Acme</title></head>
<body data-page="login" data-code="x"><main><h1>Sign in</h1><p>Hello <b>Ada</b>,<br>again</p>
<a href="/forgot">Don't remember your password?</a>
<form method="post" action="/login"><input type="hidden" name="tx" value="t1">
<input name="who" autocomplete="username webauthn"><input name="pw" type="password" autocomplete="current-password">
<input type="checkbox" name="keep"><select name="lang"><option value="en">English<option value="de">Deutsch</select>
<button name="go" value="1">Continue</button><button name="go" value="2">Other way</button></form></main>
<script>document.write("unseen")</script></body></html>"""


@pytest.fixture
def world() -> World:
    world = World()
    app = Flask("app")

    @app.get("/page")
    def page():
        answer = make_response(PAGE)
        answer.headers["Content-Security-Policy"] = "default-src 'none'; form-action 'self' https://app.acme.test"
        return answer

    @app.post("/login")
    def login():
        return dict(request.form)

    @app.get("/set")
    def set_cookies():
        answer = make_response("set")
        answer.set_cookie("lax", "1", secure=True, samesite="Lax")
        answer.set_cookie("strict", "1", secure=True, samesite="Strict")
        answer.set_cookie("__Host-a", "1", secure=True, path="/")
        answer.set_cookie("__Host-b", "1", secure=True, path="/set")
        answer.set_cookie("kept", "1", max_age=60)
        return answer

    @app.route("/cookies", methods=["GET", "POST"])
    def cookies():
        return " ".join(sorted(request.cookies))

    @app.get("/away")
    def away():
        return redirect(request.args["to"], int(request.args.get("code", "303")))

    @app.post("/away")
    def post_away():
        return redirect(request.args["to"], 303)

    world["login.acme.test"] = world["app.acme.test"] = world["elsewhere.test"] = world["localhost:8000"] = app
    return world


def test_a_host_that_is_not_in_the_world_raises(world: World) -> None:
    with pytest.raises(UnknownHost, match="no such host"):
        Browser(world).go("https://nowhere.test/")
    with pytest.raises(UnknownHost):
        WorldFetcher(world).get("https://nowhere.test/")


def test_a_host_that_is_down_is_a_typed_error_for_the_broker(world: World) -> None:
    world.down.add("elsewhere.test")
    with pytest.raises(ConnectionFailed) as failed:
        WorldFetcher(world).get("https://elsewhere.test/page")
    assert failed.value.code == "connection.unavailable"


def test_a_page_shows_its_name_text_links_and_forms(world: World) -> None:
    page = Browser(world).go("https://login.acme.test/page")
    assert (page.data_page, page.data_code, page.title) == ("login", "x", "Sign in - Acme")
    assert page.text.startswith("Sign in\nHello Ada,\nagain")
    assert "unseen" not in page.text
    assert page.link("Don't remember").href == "https://login.acme.test/forgot"


def test_forms_are_filled_by_autocomplete_tokens_and_keep_their_hidden_fields(world: World) -> None:
    page = Browser(world).go("https://login.acme.test/page")
    form = page.form(field="current-password").fill(username="ada", current_password="pw", lang="de")
    assert form.submit("Other way").json() == {"tx": "t1", "who": "ada", "pw": "pw", "lang": "de", "go": "2"}
    with pytest.raises(LookupError, match="no field"):
        form.fill(one_time_code="1")


def test_cookies_follow_the_rules_for_secure_host_prefix_and_ports(world: World) -> None:
    browser = Browser(world)
    browser.go("https://login.acme.test/set")
    assert browser.go("https://login.acme.test/cookies").text == "__Host-a kept lax strict"
    assert browser.go("https://app.acme.test/cookies").text == ""
    browser.go("http://localhost:8000/set")
    assert [c.name for c in browser.cookies if c.host == "localhost"] == ["kept"]


def test_same_site_cookies_stay_at_home_when_another_site_sends_the_browser(world: World) -> None:
    browser = Browser(world)
    browser.go("https://login.acme.test/set")
    there = "https://login.acme.test/cookies"
    assert "strict" not in browser.go(there, initiator="https://elsewhere.test/").text
    assert "lax" in browser.go(there, initiator="https://elsewhere.test/").text
    assert "lax" not in browser.post(there, {}, initiator="https://elsewhere.test/").text
    assert "strict" in browser.post(there, {}, initiator="https://app.acme.test/").text


def test_cookies_of_the_session_are_gone_after_a_restart(world: World) -> None:
    browser = Browser(world)
    browser.go("https://login.acme.test/set")
    browser.restart()
    assert browser.go("https://login.acme.test/cookies").text == "kept"


def test_redirects_leave_a_trail_and_a_loop_ends(world: World) -> None:
    browser = Browser(world)
    browser.go("https://login.acme.test/away?to=https://app.acme.test/cookies")
    assert [(hop.status, hop.url[:21]) for hop in browser.trail] == [
        (303, "https://login.acme.te"),
        (200, "https://app.acme.test"),
    ]
    with pytest.raises(RuntimeError, match="redirects"):
        browser.go("https://login.acme.test/away?to=")


def test_form_action_holds_for_every_redirect_behind_a_post(world: World) -> None:
    browser = Browser(world)
    page = browser.go("https://login.acme.test/page")
    form = page.form()
    form.action = "https://login.acme.test/away?to=https://app.acme.test/cookies"
    assert form.submit().url == "https://app.acme.test/cookies"
    form.action = "https://login.acme.test/away?to=https://app.acme.test/away?to=https://elsewhere.test/cookies"
    with pytest.raises(BlockedByPolicy, match=r"elsewhere\.test"):
        form.submit()


def test_a_private_scheme_ends_the_journey_there(world: World) -> None:
    page = Browser(world).go("https://login.acme.test/away?to=com.example.app:/callback?code=1")
    assert (page.status, page.url) == (0, "com.example.app:/callback?code=1")
