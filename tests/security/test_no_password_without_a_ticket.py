"""Random walks over every form and hidden field, in every order, without ever reading the mail (SECURITY 1).

Keycloak CVE-2026-18963: a flow note let anybody reach "set password". Here nobody who did not read the mail, and does
not know the password, ever changes one.
"""

from __future__ import annotations

import random

import pytest

from broker.testing.page import Form, Page
from broker.testing.town import PASSWORD, Town
from broker.testing.world import BlockedByPolicy, Browser, UnknownHost
from tests.stories.journeys import forget, open_app, sign_in
from tests.tokens import authorize_url

STEPS = 120
WORDS = (
    "ada", "ada@acme.test", "grace", "nobody", "mallory", "a new password of mallory's", "", "reset",
    "users", "contoso",
    "allow", "yes", "true", "1", "/admin/users/x/set-password", "sign_in_once.x", "reset.x",
)  # fmt: skip
DOORS = (
    "/login", "/forgot", "/reset", "/verify", "/link", "/invite", "/account", "/account/password", "/admin", "/consent",
    "/login/must-change", "/login/password", "/signup", "/end-session", "/forgot/elsewhere?connection=users",
    "/forgot/elsewhere?connection=contoso", "/change-password", "/reset?ticket=x", "/link?ticket=reset.x", "/home",
)  # fmt: skip
HIDDEN = ("tx", "step", "purpose", "user", "proof", "verified", "admin", "connection", "next", "ticket", "epoch")


def hashes(town: Town) -> dict[str, str | None]:
    tenant = town.broker.tenant("acme")
    with town.broker.runtime.database.reading() as work:
        people = list(work.users.each(tenant.directory))
        return {one.username or one.id: work.users.hash_of(one.id) for one in people}


@pytest.mark.parametrize("seed", range(12))
def test_a_random_walk_never_changes_a_password(town: Town, seed: int) -> None:
    town.broker.add("acme", email="mallory@acme.test", username="mallory", password="mallory's own long password")
    before = hashes(town)
    dice = random.Random(seed)
    browser = town.browser("127.0.0.1")
    if seed % 3 == 0:
        sign_in(browser, "mallory", "mallory's own long password")
    forget(open_app(town.browser()), "ada")
    town.broker.work()
    seen: list[str] = []
    page = browser.go(authorize_url(town))
    for _ in range(STEPS):
        page = step(town, browser, page, dice, seen)
    after = hashes(town)
    assert {name: after[name] for name in before if name != "mallory"} == {
        name: before[name] for name in before if name != "mallory"
    }
    assert sign_in(town.browser(), "ada", PASSWORD).url == "https://app.test/"


def step(town: Town, browser: Browser, page: Page, dice: random.Random, seen: list[str]) -> Page:
    """One move: a form of this page with odd values, a form of an earlier page, or another door."""
    move = dice.random()
    try:
        if move < 0.6 and page.forms:
            return submit(browser, page, dice.choice(page.forms), dice, seen)
        if move < 0.75 and page.links:
            return page.click(dice.choice(page.links).text)
        door = dice.choice(DOORS)
        glue = "&" if "?" in door else "?"
        tx = f"{glue}tx={dice.choice(seen)}" if seen and dice.random() < 0.7 else ""
        return browser.go(f"{town.broker.base}/t/acme{door}{tx}")
    except (UnknownHost, BlockedByPolicy, LookupError, RuntimeError):
        return browser.go(authorize_url(town))


def submit(browser: Browser, page: Page, form: Form, dice: random.Random, seen: list[str]) -> Page:
    fields = dict(form.data())
    if fields.get("tx"):
        seen.append(fields["tx"])
    for name in list(fields):
        if name not in ("csrf_token", "tx") and dice.random() < 0.8:
            fields[name] = dice.choice(WORDS)
    if "password" in fields or dice.random() < 0.3:
        fields["password"] = "a new password of mallory's"
    if dice.random() < 0.4:
        fields[dice.choice(HIDDEN)] = dice.choice((*WORDS, *seen[-3:]))
    action = form.action
    if dice.random() < 0.25:
        action = action.rpartition("/t/acme")[0] + "/t/acme" + dice.choice(DOORS).partition("?")[0]
    return browser.submit("POST", action, list(fields.items()), page)
