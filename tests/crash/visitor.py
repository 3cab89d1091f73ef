"""Somebody with a browser, over real HTTP: cookies, forms, redirects. Raises `OSError` when the server is gone."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html import unescape
from urllib.parse import urlencode, urljoin, urlsplit

_FORM = re.compile(r'<form[^>]*action="([^"]*)"[^>]*>(.*?)</form>', re.DOTALL)
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)">')
_NAME = re.compile(r'<body data-page="([^"]*)"')
_REFERENCE = re.compile(r'<code[^>]* dir="ltr">([A-Z0-9-]+)</code>')


@dataclass(frozen=True)
class Answer:
    url: str
    status: int
    text: str
    location: str = ""
    """Where it leads, when that is another origin."""

    @property
    def page(self) -> str:
        """The name of the page (CONTRACT 5)."""
        found = _NAME.search(self.text)
        return found[1] if found else ""

    @property
    def reference(self) -> str:
        found = _REFERENCE.search(self.text)
        return found[1] if found else ""

    def form(self, path: str) -> tuple[str, dict[str, str]]:
        """Where the first form for `path` is sent to, and what it brings along."""
        for action, body in _FORM.findall(self.text):
            if urlsplit(unescape(action)).path.endswith(path):
                fields = {name: unescape(value) for name, value in _HIDDEN.findall(body)}
                return urljoin(self.url, unescape(action)), fields
        raise LookupError(f"no form for {path} on {self.page} ({self.status}): {self.text[:2000]}")


@dataclass
class Visitor:
    """One browser. It stays on the origin that it was made for."""

    origin: str
    cookies: dict[str, str] = field(default_factory=dict)
    connect: Callable[[int], http.client.HTTPConnection] = field(
        default=lambda port: http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    )
    """To whom the origin's port leads; a proxy in front of replicas would choose."""

    def get(self, url: str) -> Answer:
        return self._follow("GET", url)

    def send(self, answer: Answer, path: str, **fields: str) -> Answer:
        """Fill in the form of this page and follow where it leads."""
        url, hidden = answer.form(path)
        return self._follow("POST", url, urlencode(hidden | fields))

    def _follow(self, method: str, url: str, body: str = "") -> Answer:
        for _ in range(10):
            url = urljoin(self.origin, url)
            status, location, text = self._once(method, url, body)
            if location is None or not urljoin(url, location).startswith(f"{self.origin}/"):
                return Answer(url, status, text, location or "")
            method, url, body = "GET", urljoin(url, location), ""
        raise RuntimeError(f"too many redirects, the last to {url}")

    def _once(self, method: str, url: str, body: str) -> tuple[int, str | None, str]:
        parts = urlsplit(url)
        connection = self.connect(parts.port or 80)
        headers = {"Host": parts.netloc, "Origin": self.origin, "Connection": "close"}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if method == "POST":
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request(method, target, body or None, headers)
            response = connection.getresponse()
            text = response.read().decode()
        except http.client.HTTPException as error:
            raise ConnectionError(f"the answer broke off: {error!r}") from error
        finally:
            connection.close()
        for name, value in response.headers.items():
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                self.cookies[key] = rest.partition(";")[0]
        return response.status, response.headers["Location"], text


def signs_in(origin: str, tenant: str, identifier: str, password: str) -> bool:
    """Whether this password works, by the login pages. Raises `AssertionError` for every other answer."""
    visitor = Visitor(origin)
    login = visitor.get(f"/t/{tenant}/login")
    asked = visitor.send(login, "/login", username=identifier)
    answer = visitor.send(asked, "/login/password", password=password)
    if answer.page == "account":
        return True
    assert (answer.page, answer.status) == ("password", 422), f"{answer.page} {answer.status} {answer.text[:2000]}"
    return False
