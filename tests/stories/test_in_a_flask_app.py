"""`Broker(app)`: inside somebody's Flask app, whatever that app brings along; and tenants with a host of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask, session
from flask_wtf import CSRFProtect
from werkzeug.exceptions import HTTPException

from broker.core.errors import ConfigurationError
from broker.extension import Broker
from broker.reload import Live
from broker.testing.town import ACME, Town
from broker.testing.world import World
from broker.wiring import Runtime, build
from tests.stories.journeys import choose_password, forget, type_identifier, type_password
from tests.tokens import authorize_url

YAML = """\
base_url: {base}
database: sqlite:///var/homerealm.db
key_value: {key_value}
secret_key_file: var/secret.key
mail: {{from: "Homerealm <no-reply@login.test>", transport: "maildir:var/mail"}}
"""


@pytest.fixture
def runtime_at(tmp_path: Path, key_values: tuple[str, str]) -> Iterator[Callable[..., Runtime]]:
    built: list[Runtime] = []

    def make(base: str) -> Runtime:
        config = tmp_path / f"site{len(built)}" / "config"
        (config / "tenants").mkdir(parents=True)
        (config / "broker.yaml").write_text(YAML.format(base=base, key_value=key_values[0]))
        (config / "tenants" / "acme.yaml").write_text(ACME)
        built.append(build(config))
        return built[-1]

    yield make
    for one in built:
        one.close()


def somebodys_app(static: Path | None = None) -> Flask:
    app = Flask("somebodys-app", static_folder=None if static is None else str(static), static_url_path="/static")
    app.config.update(SECRET_KEY="somebody's")

    @app.get("/")
    def home() -> str:
        session["theirs"] = "kept"
        return "somebody's own page"

    return app


def login_page(world: World, url: str) -> str:
    answer = world.send("GET", url)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return answer.get_data(as_text=True)


@pytest.mark.parametrize("base", ["https://login.test/sso", "https://login.test/behind/a/proxy/sso"])
@pytest.mark.parametrize("prefix", ["/sso", "sso/"])
def test_the_pages_lie_where_the_base_url_says(runtime_at: Callable[..., Runtime], base: str, prefix: str) -> None:
    app = somebodys_app()
    Broker(app, config=runtime_at(base), url_prefix=prefix)
    world = World({"login.test": app})
    found = world.send("GET", "https://login.test/sso/t/acme/.well-known/openid-configuration").json
    assert found is not None
    assert found["issuer"] == f"{base}/t/acme"
    path = base.removeprefix("https://login.test")
    assert f'action="{path}/t/acme/login"' in login_page(world, "https://login.test/sso/t/acme/login")


@pytest.mark.parametrize("base", ["https://login.test", "https://login.test/mysso", "https://login.test/sso/x"])
def test_a_prefix_that_the_base_url_does_not_have_is_refused_with_both(
    runtime_at: Callable[..., Runtime], base: str
) -> None:
    built = runtime_at(base)
    app = somebodys_app()
    for config in (built, Live(built), built.settings.config_dir):
        with pytest.raises(ConfigurationError) as refused:
            Broker(app, config=config, url_prefix="sso")
        (problem,) = refused.value.problems
        assert f"base_url: is {base}, " in problem
        assert 'url_prefix="/sso"' in problem
        assert problem.endswith("base_url: https://login.test/sso")
    assert world_is_theirs(app)


def world_is_theirs(app: Flask) -> bool:
    return World({"login.test": app}).send("GET", "https://login.test/sso/t/acme/login").status_code == 404


def test_init_app_and_a_csrf_protection_that_is_made_afterwards(runtime_at: Callable[..., Runtime]) -> None:
    broker = Broker(config=runtime_at("https://login.test/sso"), url_prefix="/sso")
    app = somebodys_app()
    broker.init_app(app)
    CSRFProtect(app)

    @app.post("/own")
    def own() -> str:
        return "only with a token"

    world = World({"login.test": app})
    assert world.send("POST", "https://login.test/own", body=b"a=1").status_code == 400, "theirs is still protected"
    ours = world.send(
        "POST", "https://login.test/sso/t/acme/token", body=b"grant_type=x",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )  # fmt: skip
    assert ours.json is not None
    assert ours.json["error"] in ("invalid_client", "unsupported_grant_type", "invalid_request")
    forged = world.send(
        "POST", "https://login.test/sso/t/acme/forgot", body=b"username=ada",
        headers={"Content-Type": "application/x-www-form-urlencoded", "Cookie": "a=b"},
    )  # fmt: skip
    assert forged.status_code == 400, "and ours protect themselves"


def test_their_error_handlers_answer_for_their_pages_and_ours_for_ours(runtime_at: Callable[..., Runtime]) -> None:
    app = somebodys_app()

    @app.errorhandler(HTTPException)
    def theirs(error: HTTPException) -> tuple[str, int]:
        return "somebody's own error page", error.code or 500

    @app.errorhandler(Exception)
    def anything(_: Exception) -> tuple[str, int]:
        return "somebody's own failure", 500

    Broker(app, config=runtime_at("https://login.test/sso"), url_prefix="/sso")
    world = World({"login.test": app})
    assert world.send("GET", "https://login.test/nothing").get_data(as_text=True) == "somebody's own error page"
    ours = world.send("GET", "https://login.test/sso/t/nobody/login")
    assert ours.status_code == 404
    assert 'data-code="tenant.unknown"' in ours.get_data(as_text=True)
    assert "session=" in world.send("GET", "https://login.test/").headers["Set-Cookie"]


def test_at_the_root_of_an_app_its_own_static_files_are_still_there(
    runtime_at: Callable[..., Runtime], tmp_path: Path
) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "app.css").write_text("body {}")
    app = somebodys_app(tmp_path / "theirs")
    broker = Broker(app, config=runtime_at("https://login.test"))
    world = World({"login.test": app})
    with world.send("GET", "https://login.test/static/app.css") as theirs:
        assert theirs.get_data() == b"body {}"
    assert world.send("GET", "https://login.test/static/nothing.css").status_code == 404
    ours = world.send("GET", f"https://login.test{broker.assets.url('hosted.js')}")
    assert ours.status_code == 200
    assert world.send("GET", "https://login.test/").get_data() == b"somebody's own page"


def test_one_app_has_one_broker_and_two_apps_have_two(runtime_at: Callable[..., Runtime]) -> None:
    first, second = somebodys_app(), somebodys_app()
    Broker(first, config=runtime_at("https://login.test"))
    Broker(second, config=runtime_at("https://other.test/auth"), url_prefix="/auth")
    with pytest.raises(RuntimeError, match="has a broker already"):
        Broker(first, config=runtime_at("https://login.test/again"), url_prefix="/again")
    world = World({"login.test": first, "other.test": second})
    assert 'action="/t/acme/login"' in login_page(world, "https://login.test/t/acme/login")
    assert 'action="/auth/t/acme/login"' in login_page(world, "https://other.test/auth/t/acme/login")


def test_a_tenant_with_a_host_of_its_own_is_whole(build_town: Callable[..., Town], mounted: bool) -> None:
    """Sign-in, reset and an error's button, on addresses without `/t/<tenant>`."""
    town = build_town(mounted=mounted, acme=f"issuer: https://login.acme.test\n{ACME}")
    town.world["login.acme.test"] = town.broker.app
    town.broker.add("acme", email="ada@acme.test", username="ada")
    browser = town.browser()
    start = "https://login.acme.test/authorize" + authorize_url(town).partition("/authorize")[2]
    browser.stop_at = ("https://app.test/callback/acme?code=",)
    login = browser.go(start)
    assert login.data_page == "login"
    assert login.form(field="username").action == "https://login.acme.test/login"
    mailed = forget(login, "ada")
    assert mailed.url.startswith("https://login.acme.test/login?tx=")
    form = browser.go(town.mail().last("ada@acme.test", "reset").link("https://login.acme.test/reset?ticket="))
    done = choose_password(form)
    assert done.url.startswith("https://app.test/callback/acme?code=")
    assert "iss=https%3A%2F%2Flogin.acme.test" in done.url
    account = browser.go("https://login.acme.test/account")
    assert account.data_page == "account"
    metadata = town.world.send("GET", "https://login.acme.test/.well-known/openid-configuration").json
    assert metadata is not None
    assert metadata["issuer"] == "https://login.acme.test"
    posted = town.world.send(
        "POST", "https://login.acme.test/callback/contoso", body=b"state=x&code=y",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )  # fmt: skip
    assert posted.headers["Location"] == "https://login.acme.test/callback/contoso?state=x&code=y"
    page = type_identifier(town.browser().go("https://login.acme.test/login"), "ada")
    assert type_password(page, "a new and longer passphrase").data_page == "account"
