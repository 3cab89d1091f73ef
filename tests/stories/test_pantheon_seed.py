"""Pantheon's "Resetting Passwords" (Drupal), sentence by sentence."""

from __future__ import annotations

import pytest

from broker.core.values import Actor
from broker.testing.page import Page
from broker.testing.town import PASSWORD, Town
from tests.stories.journeys import NEW, at_the_app, choose_password, forget, open_app, reset_link, sign_in


def test_visit_this_link_and_follow_the_instructions(town: Town) -> None:
    """ "If you need to reset your Pantheon dashboard user password, visit this link and follow the instructions" """
    page = town.browser().go(f"{town.broker.base}/t/acme/forgot")
    assert page.data_page == "forgot"
    assert page.form(field="username").fill(username="ada").submit().data_page == "login"
    assert town.mail().last("ada@acme.test", "reset")


@pytest.mark.parametrize("identifier", ["ada", "ada@acme.test", "ADA", "Ada@ACME.test"])
def test_enter_either_the_username_or_email_address(town: Town, identifier: str) -> None:
    """ "In the password reset form, enter either the username or email address you used to sign up ..., and you will
    receive an email with a link." """
    forget(open_app(town.browser()), identifier)
    assert len(town.mail().to("ada@acme.test", "reset")) == 1


def test_the_link_brings_you_to_the_page_where_you_can_reset(town: Town) -> None:
    """ "When you click the link in your email, you will be logged in to your site and brought to your user profile edit
    page, where you can reset your password." """
    browser = town.browser()
    forget(open_app(browser), "ada")
    page = browser.go(reset_link(town, "ada@acme.test"))
    assert page.data_page == "reset"
    assert "ticket" not in page.url
    assert "ada" in page.text


def test_without_a_new_password_nothing_has_changed(town: Town) -> None:
    """ "You need to enter your new password at this point. Don't surf away from the page without setting a new
    password, or else you will have to go through this whole process again" """
    browser = town.browser()
    forget(open_app(browser), "ada")
    link = reset_link(town, "ada@acme.test")
    browser.go(link)
    assert at_the_app(sign_in(town.browser(), "ada", PASSWORD), "ada@acme.test")
    # Kinder than Drupal: the link was not used up by looking at it.
    assert at_the_app(choose_password(browser.go(link)), "ada@acme.test")


def test_what_you_set_in_one_environment_is_different_in_another(town: Town) -> None:
    """ "your site password is stored in a database, so whatever you set in the development environment may be
    different than test or live" """
    for tenant in ("test-acme", "dev-acme"):
        town.broker.add(tenant, email="ada@acme.test", username="ada")
    browser = town.browser()
    page = browser.go(f"{town.broker.base}/t/dev-acme/forgot")
    assert "dev" in page.text
    page.form(field="username").fill(username="ada").submit()
    link = town.mail().last("ada@acme.test", "reset").link("/t/dev-acme/reset")
    choose_password(browser.go(link))
    assert signs_in(town, "dev-acme", NEW)
    assert not signs_in(town, "dev-acme", PASSWORD)
    for other in ("acme", "test-acme"):
        assert signs_in(town, other, PASSWORD)
        assert not signs_in(town, other, NEW)


def signs_in(town: Town, tenant: str, password: str) -> bool:
    page = town.browser().go(f"{town.broker.base}/t/{tenant}/login")
    page = page.form(field="username").fill(username="ada").submit()
    done: Page = page.form(field="current-password").fill({"current-password": password}).submit()
    return done.data_page == "account"


def test_a_link_of_one_environment_is_refused_in_another_and_not_used_up(town: Town) -> None:
    town.broker.add("test-acme", email="ada@acme.test", username="ada")
    browser = town.browser()
    forget(open_app(browser), "ada")
    link = reset_link(town, "ada@acme.test")
    stray = browser.go(link.replace("/t/acme/", "/t/test-acme/"))
    assert stray.data_code == "ticket.elsewhere"
    assert at_the_app(choose_password(browser.go(link)), "ada@acme.test")


def test_generate_a_one_time_login_link_on_the_command_line(town: Town) -> None:
    """ "you can still generate a one-time password reset link ... drush @pantheon.SITENAME.ENV user-login" """
    tenant = town.broker.tenant("acme")
    user = town.broker.runtime.desk.find(tenant, "ada")
    link = town.broker.runtime.desk.login_link(tenant, user, Actor.command_line("root"))
    browser = town.browser()
    page = browser.go(link)
    assert "ticket" not in page.url
    account = choose_password(page)
    assert account.data_page == "account"
    assert browser.go(link).data_code == "ticket.used"
    assert at_the_app(sign_in(town.browser(), "ada", NEW), "ada@acme.test")
