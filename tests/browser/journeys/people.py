"""A person in front of a real browser, and the demo that they try."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import BrowserContext, ConsoleMessage, Request

from broker.demo import sample
from broker.demo.preparation import Addresses
from broker.demo.sample import PASSWORD, Person

NEW = "copper-meadow-violin-cloud"
POLICY = "content security policy"


@dataclass(frozen=True)
class Demo:
    """A running `homerealm demo`."""

    addresses: Addresses
    config: Path
    upstream_config: Path

    @property
    def app(self) -> str:
        return self.addresses.app

    @property
    def acme(self) -> str:
        return f"{self.addresses.broker}/t/acme"

    @property
    def mailbox(self) -> str:
        return f"{self.addresses.broker}/dev/mailbox"

    def move_in(self, username: str, tenant: str = "acme") -> Person:
        """Somebody new, so that no story depends on what another one did to ada."""
        person = Person(tenant, username, f"{username}@{tenant}.example", username.title(), "")
        sample.fill(self.config, (person,), os.environ)
        return person

    def move_in_upstream(self, username: str, domain: str = "contoso.example") -> Person:
        """Somebody new at Contoso, the upstream provider."""
        person = Person("contoso", None, f"{username}@{domain}", username.title(), "")
        sample.fill(self.upstream_config, (person,), os.environ)
        return person


class Window:
    """One browser with cookies of its own, and what it complains about."""

    def __init__(self, context: BrowserContext, demo: Demo) -> None:
        self.context, self.demo = context, demo
        self.complaints: list[str] = []
        self.missing: list[str] = []
        context.on("console", self._said)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("requestfailed", self._failed)
        self.page = context.new_page()
        self.page.set_default_timeout(15_000)

    def _said(self, message: ConsoleMessage) -> None:
        # A page that is answered with 410 or 422 is "an error" to Chromium, and a right answer of ours.
        if message.type in ("error", "warning") and "the server responded with a status of" not in message.text:
            self.complaints.append(message.text)

    def _failed(self, request: Request) -> None:
        if "ERR_ABORTED" not in (request.failure or ""):
            self.missing.append(f"{request.url}: {request.failure}")

    @property
    def blocked(self) -> list[str]:
        """What the Content Security Policy forbade."""
        return [text for text in self.complaints if POLICY in text.lower()]

    @property
    def name(self) -> str | None:
        """The name of the page that is shown (CONTRACT 5)."""
        return self.page.locator("body").get_attribute("data-page")

    def press(self, button: str, *, exact: bool = True) -> None:
        self.page.get_by_role("button", name=button, exact=exact).click()

    def follow(self, link: str, *, exact: bool = True) -> None:
        self.page.get_by_role("link", name=link, exact=exact).click()

    def arrive(self, name: str) -> None:
        """Wait until the page of this name is shown."""
        try:
            self.page.wait_for_selector(f"body[data-page={name}]", timeout=15_000)
        except Exception as error:
            said = self.page.inner_text("body")[:1500]
            raise AssertionError(f"not at {name} but at {self.page.url} {self.complaints}:\n{said}") from error

    def open_app(self, way: str = "Sign in at Acme") -> None:
        self.page.goto(self.demo.app)
        self.follow(way)

    def type_identifier(self, identifier: str) -> None:
        """As a password manager does: by the standard tokens alone (CONTRACT 5)."""
        field = self.page.locator("main input[autocomplete~=username]:not([readonly])")
        field.fill(identifier)
        field.press("Enter")

    def type_password(self, password: str = PASSWORD) -> None:
        field = self.page.locator("input[autocomplete=current-password]")
        field.fill(password)
        field.press("Enter")

    def choose_password(self, password: str = NEW) -> None:
        field = self.page.locator("input[autocomplete=new-password]")
        field.fill(password)
        field.press("Enter")

    def sign_in(self, identifier: str, password: str = PASSWORD) -> None:
        """From the login page on."""
        self.arrive("login")
        self.type_identifier(identifier)
        self.arrive("password")
        self.type_password(password)

    def forget(self, identifier: str) -> None:
        """From the login page to the login page, or to wherever the password lives."""
        self.arrive("login")
        self.follow("Don't remember your password?")
        self.arrive("forgot")
        self.type_identifier(identifier)

    def is_at_the_app_as(self, who: str) -> None:
        self.arrive("app")
        assert self.page.url == f"{self.demo.app}/"
        assert self.page.locator("#who").inner_text() == who

    def read_mail(self, to: str, kind: str) -> None:
        """Open the newest mail of this kind in the mailbox viewer, as soon as it is there."""
        row = self.page.locator("ul.rows li").filter(has_text=to).filter(
            has=self.page.locator(".badge", has_text=re.compile(f"^{kind}$"))
        )  # fmt: skip
        wait_until(lambda: bool(self.page.goto(self.demo.mailbox)) and row.count() > 0, f"a mail {kind} to {to}")
        row.first.get_by_role("link").click()
        self.arrive("dev-mail")

    def open_link_of_mail(self) -> None:
        """The one link that a mail has to act on."""
        links = self.page.locator(".mail a[href*='/t/']")
        assert links.count() == 1
        # A mail program opens links without saying where from.
        self.page.goto(links.get_attribute("href") or "")


def wait_until(done: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Raises `AssertionError` when it does not happen."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"it did not come: {what}"
        time.sleep(0.1)
