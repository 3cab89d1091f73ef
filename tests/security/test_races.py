"""One-time things under 32 parallel uses: exactly one success, in 20 rounds of 20 (SECURITY, promises)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

from broker.testing.page import Page
from broker.testing.town import Town
from broker.testing.world import Browser
from tests.stories.journeys import forget, open_app, sign_in, type_identifier, type_password
from tests.tokens import CALLBACK, authorize_url, token

PARALLEL = 32
ROUNDS = 20
T = TypeVar("T")


def at_once(action: Callable[[int], T], times: int = PARALLEL) -> list[T]:
    """The same action by many, all released at the same moment."""
    gate = threading.Barrier(times)

    def run(number: int) -> T:
        gate.wait()
        return action(number)

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(run, range(times)))


def test_one_reset_link_works_once(town: Town) -> None:
    for number in range(ROUNDS):
        browser = town.browser()
        forget(open_app(browser), "ada")
        page = browser.go(town.mail().last("ada@acme.test", "reset").link("/reset?ticket="))
        fields = dict(page.form(field="new-password").data())

        def redeem(
            attempt: int, *, number: int = number, fields: dict[str, str] = fields, browser: Browser = browser
        ) -> Page:
            mine = fields | {"password": f"round {number} attempt {attempt} of a race"}
            return browser.send("POST", f"{town.broker.base}/t/acme/reset", data=mine)

        answers = at_once(redeem)
        winners = [attempt for attempt, page in enumerate(answers) if page.status == 303]
        assert len(winners) == 1, [page.status for page in answers]
        assert {page.status for page in answers} <= {303, 410}
        # The password is the winner's, and nobody else's.
        new = f"round {number} attempt {winners[0]} of a race"
        assert sign_in(town.browser(), "ada", new).url == "https://app.test/"
        town.later(minutes=13)  # not more than five mails an hour


def test_one_code_works_once_and_its_second_use_kills_what_came_of_it(town: Town) -> None:
    for _ in range(ROUNDS):
        browser = town.browser()
        browser.stop_at = (CALLBACK,)
        page = type_password(type_identifier(browser.go(authorize_url(town)), "ada"))
        code = parse_qs(urlsplit(page.url).query)["code"][0]
        answers = at_once(lambda _, code=code: token(town, grant_type="authorization_code", code=code))
        good = [answer for answer in answers if answer.status_code == 200]
        assert len(good) <= 1
        assert all(answer.json["error"] == "invalid_grant" for answer in answers if answer.status_code != 200)
        for answer in good:
            bearer = {"Authorization": f"Bearer {answer.json['access_token']}"}
            assert town.world.send("GET", f"{town.broker.base}/t/acme/userinfo", headers=bearer).status_code == 401


def test_one_refresh_token_is_rotated_once_and_its_second_use_kills_the_family(town: Town) -> None:
    for _ in range(ROUNDS):
        browser = town.browser()
        browser.stop_at = (CALLBACK,)
        page = type_password(type_identifier(browser.go(authorize_url(town)), "ada"))
        code = parse_qs(urlsplit(page.url).query)["code"][0]
        first = token(town, grant_type="authorization_code", code=code).json
        answers = at_once(
            lambda _, old=first["refresh_token"]: token(town, grant_type="refresh_token", refresh_token=old)
        )
        assert len([answer for answer in answers if answer.status_code == 200]) <= 1
        for answer in answers:
            if answer.status_code == 200:
                again = token(town, grant_type="refresh_token", refresh_token=answer.json["refresh_token"])
                assert again.json["error"] == "invalid_grant"


def test_one_login_yields_one_code(town: Town) -> None:
    url = f"{town.broker.base}/t/acme/login/password"
    for _ in range(5):
        browser = town.browser()
        page = type_identifier(browser.go(authorize_url(town)), "ada")
        fields = dict(
            page.form(field="current-password").fill({"current-password": "correct horse battery staple"}).data()
        )
        answers = at_once(lambda _, fields=fields, browser=browser: browser.send("POST", url, data=fields), 16)
        codes = [page for page in answers if page.headers.get("location", "").startswith(CALLBACK)]
        assert len(codes) == 1
        assert all(page.status < 500 for page in answers)
