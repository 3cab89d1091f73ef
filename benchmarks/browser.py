"""A virtual user's browser: cookies, redirects on one origin only, form submission; every call is a generator for the engine."""

from __future__ import annotations

import posixpath
from collections.abc import Generator
from urllib.parse import urlencode, urljoin, urlsplit

from engine import Answer, Failure, Job
from forms import Form

NAVIGATE = (
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    b"Accept: text/html,application/xhtml+xml\r\nAccept-Language: en\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n"
)
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
Steps = Generator[bytes | float, Answer, Answer]


class Arrived(Exception):
    """The provider sent the browser to the application: the address with the answer in it. It is never fetched."""

    def __init__(self, url: str):
        self.url = url


class Browser(Job):
    """Cookies and connections of one virtual user of `origin`; `application` is the redirect address where the flow ends."""

    def __init__(self, origin: str, application: str, proxied: bytes = b""):
        super().__init__()
        self.origin, self.application = origin, application
        self.head = b"Host: " + urlsplit(origin).netloc.encode() + b"\r\n" + proxied
        self.jar: dict[tuple[str, str], str] = {}
        self.extra = b""

    def forget(self, extra: bytes = b"") -> None:
        """Become a new visitor: no cookies; `extra` header lines go with every further request."""
        self.jar.clear()
        self.extra = extra

    def call(self, method: str, url: str, headers: bytes = b"", body: bytes = b"") -> Steps:
        """One request as an application makes it: no cookies, no redirects."""
        answer = yield self._request(method, url, headers, body)
        answer.url = url
        return answer

    def open(
        self, url: str, form: list[tuple[str, str]] | None = None, referrer: str | None = None, *, follow: bool = True
    ) -> Steps:
        """Go to an address (by POST when `form` is given) and `follow` redirects; raises `Arrived` at the application."""
        method, body = ("GET", b"") if form is None else ("POST", urlencode(form).encode())
        site = b"same-origin" if referrer else b"cross-site"
        for _ in range(10):
            headers = NAVIGATE + b"Sec-Fetch-Site: " + site + b"\r\n"
            if referrer:
                headers += b"Referer: " + referrer.encode() + b"\r\n"
            if method == "POST":
                headers += FORM + b"Origin: " + self.origin.encode() + b"\r\n"
            answer = yield self._request(method, url, headers + self._cookies(url), body)
            for cookie in answer.cookies:
                self._keep(url, cookie)
            answer.url = url
            if not follow or answer.status not in (301, 302, 303, 307, 308) or not answer.location:
                return answer
            if answer.status in (301, 302, 303):
                method, body = "GET", b""
            url = urljoin(url, answer.location)
            if url.startswith(self.application) and url[len(self.application) :][:1] in ("?", "#", "&", ""):
                raise Arrived(url)
        raise Failure("more than 10 redirects")

    def submit(
        self, page: Answer, form: Form, filled: dict[str, str], button: dict[str, str] | None = None, *,
        follow: bool = True,
    ) -> Steps:  # fmt: skip
        """Press a form's button (default: its first)."""
        data = form.data(filled, button)
        pressed = button or next(iter(form.buttons), {})
        target = (
            urljoin(page.url, pressed.get("formaction") or form.action)
            if pressed.get("formaction") or form.action
            else page.url
        )
        if pressed.get("formmethod", form.method) == "post":
            return self.open(target, data, page.url, follow=follow)
        return self.open(target.split("?")[0].split("#")[0] + "?" + urlencode(data), None, page.url)

    def _request(self, method: str, url: str, headers: bytes, body: bytes) -> bytes:
        if not url.startswith(self.origin) or url[len(self.origin) :][:1] not in ("/", "?", "#", ""):
            raise Failure(f"leads away from {self.origin}: {url[:120]}")
        target = url[len(self.origin) :].split("#", maxsplit=1)[0] or "/"
        length = b"Content-Length: %d\r\n" % len(body) if method == "POST" else b""
        return b"".join(
            (
                method.encode(),
                b" ",
                target.encode(),
                b" HTTP/1.1\r\n",
                self.head,
                self.extra,
                headers,
                length,
                b"\r\n",
                body,
            )
        )

    def _keep(self, url: str, cookie: str) -> None:
        """Store, replace or remove a cookie (RFC 6265, section 5.2; `Secure` and `Domain` do not matter on one origin)."""
        pair, *parts = cookie.split(";")
        name, _, value = pair.strip().partition("=")
        options = {key.strip().lower(): text.strip() for key, _, text in (part.partition("=") for part in parts)}
        path = options.get("path", "")
        if not path.startswith("/"):
            path = posixpath.dirname(urlsplit(url).path) or "/"
        if (
            options.get("max-age", "1").lstrip("-0") == ""
            or options.get("max-age", "").startswith("-")
            or "1970" in options.get("expires", "")
        ):
            self.jar.pop((name, path), None)
        else:
            self.jar[name, path] = value

    def _cookies(self, url: str) -> bytes:
        if not self.jar:
            return b""
        at = url[len(self.origin) :].split("?", maxsplit=1)[0] or "/"
        sent = [
            f"{name}={value}"
            for (name, path), value in self.jar.items()
            if at == path or at.startswith(path if path.endswith("/") else path + "/")
        ]
        return b"Cookie: " + "; ".join(sent).encode("latin-1") + b"\r\n" if sent else b""
