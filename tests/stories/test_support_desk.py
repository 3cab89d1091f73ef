"""The support desk: who may do what to whom, and what is written down (issue 3, point 9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from broker.testing.browser import Browser
from broker.testing.page import Page
from broker.testing.town import ACME, PASSWORD, Town
from tests.stories.journeys import NEW, choose_password, open_app, sign_in, type_identifier, type_password

STAFF = ACME.replace(
    "role: helpdesk}", "role: helpdesk}\n  - {connection: contoso, identifier: carol@contoso.test, role: admin}"
)


@pytest.fixture
def desk_town(build_town: Callable[..., Town], mounted: bool) -> Town:
    """Grace owns Acme, Heidi is its help desk, Carol administers it from Contoso; Ada is a user."""
    town = build_town(mounted=mounted, acme=STAFF)
    for name in ("ada", "grace", "heidi"):
        town.broker.add("acme", email=f"{name}@acme.test", username=name)
    town.upstream.add("contoso", email="carol@contoso.test", name="Carol Shaw")
    return town


def at_desk(town: Town, browser: Browser, who: str) -> Page:
    return type_password(type_identifier(browser.go(f"{town.broker.base}/t/acme/admin"), who))


def user_page(town: Town, browser: Browser, whom: str) -> Page:
    tenant = town.broker.tenant("acme")
    return browser.go(f"{town.broker.base}/t/acme/admin/users/{town.broker.runtime.desk.find(tenant, whom).id}")


def offered(page: Page) -> set[str]:
    """What the More menu offers."""
    found = {form.action.rpartition("/")[2] for form in page.forms if "/admin/users/" in form.action}
    return found | {"set-password" for link in page.links if link.href.endswith("/set-password")}


def audited(town: Town, whom: str) -> list[tuple[str, str]]:
    tenant = town.broker.tenant("acme")
    target = town.broker.runtime.desk.find(tenant, whom)
    with town.broker.runtime.database.reading() as work:
        return [(one.action.value, one.actor.kind.value) for one in work.audit.read(tenant.directory, target=target.id)]


def confirmed(page: Page) -> Page:
    assert page.data_page == "admin-confirm"
    return page.form(field="current-password").fill({"current-password": PASSWORD}).submit()


def test_the_menu_offers_what_the_role_may_do(desk_town: Town) -> None:
    owner, helpdesk = desk_town.browser(), desk_town.browser()
    at_desk(desk_town, owner, "grace")
    at_desk(desk_town, helpdesk, "heidi")
    assert {"send-reset", "set-password", "login-link", "sign-out", "block"} <= offered(
        user_page(desk_town, owner, "ada")
    )
    assert offered(user_page(desk_town, helpdesk, "ada")) == {"send-reset", "set-password", "sign-out"}
    assert offered(user_page(desk_town, helpdesk, "grace")) == set(), "nobody acts on a higher rank"
    assert offered(user_page(desk_town, helpdesk, "heidi")) == set(), "nor on their own"
    assert "block" not in offered(user_page(desk_town, owner, "grace")), "and nobody locks themselves out"


def test_what_is_not_offered_is_refused(desk_town: Town) -> None:
    """A form of the help desk's own making, sent to the owner's address."""
    browser = desk_town.browser()
    at_desk(desk_town, browser, "heidi")
    form = user_page(desk_town, browser, "ada").form(action="/send-reset")
    grace = desk_town.broker.runtime.desk.find(desk_town.broker.tenant("acme"), "grace")
    url = f"{desk_town.broker.base}/t/acme/admin/users/{grace.id}/send-reset"
    refused = browser.post(url, dict(form.data()))
    assert (refused.status, refused.data_code) == (403, "desk.rank")
    assert browser.go(url.replace("/send-reset", "/set-password")).data_code == "desk.rank"
    assert desk_town.mail().all() == []


@pytest.mark.parametrize("action", ["sign-out", "block", "login-link"])
def test_each_is_behind_the_administrators_own_password_and_is_written_down(desk_town: Town, action: str) -> None:
    ada, browser = desk_town.browser(), desk_town.browser()
    sign_in(ada, "ada")
    at_desk(desk_town, browser, "grace")
    page = user_page(desk_town, browser, "ada")
    asked = page.form(action=f"/{action}").submit()
    words = {"sign-out": "sign out ada", "block": "block ada", "login-link": "one-time login link for ada"}[action]
    assert words in asked.text
    wrong = asked.form(field="current-password").fill({"current-password": "not this one at all"}).submit()
    assert wrong.status == 422
    assert words in wrong.text, "it still says what it is about"
    before = {cookie.name: cookie.value for cookie in browser.cookies}
    page = confirmed(wrong)
    assert page.data_page == "admin-user"
    assert before != {cookie.name: cookie.value for cookie in browser.cookies}, "a new secret at a change of privilege"
    done = page.form(action=f"/{action}").submit()
    assert done.data_page == "admin-user"
    name = {"sign-out": "user.signed_out_everywhere", "block": "user.blocked", "login-link": "login_link.made"}[action]
    assert audited(desk_town, "ada")[0] == (name, "admin")
    still = ada.go(f"{desk_town.broker.base}/t/acme/account").data_page == "account"
    assert still == (action == "login-link")
    if action == "block":
        back = user_page(desk_town, browser, "ada").form(action="/unblock").submit()
        assert back.data_page == "admin-user"
        assert audited(desk_town, "ada")[0] == ("user.unblocked", "admin")
        assert ada.go(f"{desk_town.broker.base}/t/acme/account").data_page == "login", "nothing comes back to life"


def test_an_administrator_who_signs_in_elsewhere_signs_in_there_again(desk_town: Town) -> None:
    browser = desk_town.browser()
    there = browser.go(f"{desk_town.broker.base}/t/acme/admin").click("Continue with Contoso")
    assert type_password(type_identifier(there, "carol@contoso.test")).data_page == "admin-users"
    desk_town.later(minutes=6)
    asked = user_page(desk_town, browser, "ada").form(action="/sign-out").submit()
    assert asked.data_page == "admin-confirm"
    assert not any("current-password" in control.tokens for form in asked.forms for control in form.controls)
    there = asked.click("Continue with Contoso")
    assert there.url.startswith("https://contoso.test/"), "a live session at the provider does not do"
    back = type_password(there if there.data_page == "password" else type_identifier(there, "carol@contoso.test"))
    assert back.data_page == "admin-user"
    assert "ada" in back.text, "back where it began"
    back.form(action="/sign-out").submit()
    assert audited(desk_town, "ada")[0] == ("user.signed_out_everywhere", "admin")


def test_an_address_that_is_not_proven_makes_nobody_an_administrator(desk_town: Town) -> None:
    runtime = desk_town.broker.runtime
    grace = runtime.desk.find(desk_town.broker.tenant("acme"), "grace")
    with runtime.database.writing() as work:
        work.users.update(grace.id, lambda one: replace(one, email_verified=False))
    assert at_desk(desk_town, desk_town.browser(), "grace").data_code == "desk.not_admin"


def test_an_administrator_of_one_tenant_is_nobody_in_another(desk_town: Town) -> None:
    """Also with the same address there, and in another environment of the same tenant with an account of its own."""
    grace = desk_town.broker.add("globex", email="grace@acme.test", username="grace")
    browser = desk_town.browser()
    at_desk(desk_town, browser, "grace")
    stray = user_page(desk_town, browser, "ada").url.rpartition("/")[0] + "/" + grace.id
    assert browser.go(stray).status == 404
    page = browser.go(f"{desk_town.broker.base}/t/globex/admin")
    assert page.data_page == "login"
    assert type_password(type_identifier(page, "grace")).data_code == "desk.not_admin"


def test_somebody_without_a_password_here_gets_none_and_is_told_where_theirs_is(desk_town: Town) -> None:
    carol = desk_town.browser()
    type_password(type_identifier(open_app(carol, connection="contoso"), "carol@contoso.test"))
    browser = desk_town.browser()
    at_desk(desk_town, browser, "grace")
    page = user_page(desk_town, browser, "carol@contoso.test")
    assert "set-password" not in offered(page)
    assert "login-link" not in offered(page)
    assert browser.go(f"{page.url.partition('?')[0]}/set-password").data_code == "desk.rank"
    page.form(action="/send-reset").submit()
    assert desk_town.mail().last("carol@contoso.test").kind == "reset-elsewhere"
    assert audited(desk_town, "carol@contoso.test")[0] == ("reset.sent", "admin")


def test_the_way_on_after_the_confirmation_never_leaves_the_desk(desk_town: Town) -> None:
    browser = desk_town.browser()
    at_desk(desk_town, browser, "grace")
    form = user_page(desk_town, browser, "ada").form(action="/sign-out").submit().form(field="current-password")
    for evil in ("https://evil.test/", "//evil.test/admin/users/x", "/\\evil.test", "/account", "/admin/users"):
        form.fill({"current-password": PASSWORD})
        next(control for control in form.controls if control.name == "next").value = evil
        assert browser.post(form.action, dict(form.data())).status == 404, evil


def test_a_one_time_link_from_the_desk_signs_in_to_the_page_where_a_password_is_set(desk_town: Town) -> None:
    browser = desk_town.browser()
    at_desk(desk_town, browser, "grace")
    page = confirmed(user_page(desk_town, browser, "ada").form(action="/login-link").submit())
    shown = page.form(action="/login-link").submit()
    link = next(
        word
        for word in shown.html.replace('"', " ").replace("<", " ").replace(">", " ").split()
        if "/link?ticket=" in word
    )
    assert "ticket=" not in user_page(desk_town, browser, "ada").html, "shown once"
    assert choose_password(desk_town.browser().go(link), NEW).data_page == "account"
