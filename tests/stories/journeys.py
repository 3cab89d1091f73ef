"""Steps that many stories take, in a person's words."""

from __future__ import annotations

from broker.testing.page import Page
from broker.testing.town import PASSWORD, Town
from broker.testing.world import Browser

NEW = "a new and longer passphrase"


def open_app(browser: Browser, tenant: str = "acme", **extra: str) -> Page:
    """Press "Sign in" at the app."""
    query = "&".join(f"{key}={value}" for key, value in extra.items())
    return browser.go(f"https://app.test/login/{tenant}{'?' + query if query else ''}")


def type_identifier(page: Page, identifier: str) -> Page:
    return page.form(field="username").fill(username=identifier).submit()


def type_password(page: Page, password: str = PASSWORD) -> Page:
    return page.form(field="current-password").fill({"current-password": password}).submit()


def sign_in(browser: Browser, identifier: str, password: str = PASSWORD, tenant: str = "acme") -> Page:
    """From the app to the app."""
    return type_password(type_identifier(open_app(browser, tenant), identifier), password)


def forget(page: Page, identifier: str) -> Page:
    """From a login page: the link, and the identifier."""
    return type_identifier(page.click("Don't remember your password?"), identifier)


def choose_password(page: Page, password: str = NEW) -> Page:
    return page.form(field="new-password").fill({"new-password": password}).submit()


def at_the_app(page: Page, who: str) -> bool:
    """Whether the app shows that this person is signed in."""
    return page.url == "https://app.test/" and who in page.text and "ID token" in page.text


def reset_link(town: Town, address: str) -> str:
    return town.mail().last(address, "reset").link("/reset?ticket=")
