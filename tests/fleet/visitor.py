"""Somebody at a browser in the guide's machine: comes by the public name, through TLS, and says as JSON what was seen.

visitor.py sign-in USER PASSWORD      signs in to the account page; exit status 1 when the page is another
visitor.py across USER PASSWORD       the same, and each replica is away during a part of it
visitor.py keys                       the ids of the published signing keys
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys

import httpx2

from broker.testing.page import Page, read

SITE = "https://login.example.org/t/acme"


class Visitor:
    """A browser without JavaScript that trusts the guide's certificate."""

    def __init__(self) -> None:
        trust = ssl.create_default_context(cafile="/etc/ssl/homerealm/cert.pem")
        self.http = httpx2.Client(verify=trust, follow_redirects=True, timeout=20)

    def get(self, path: str) -> Page:
        return self._read(self.http.get(f"{SITE}{path}"))

    def follow(self, url: str) -> Page:
        return self._read(self.http.get(url))

    def send(self, url: str, method: str, data: list[tuple[str, str]]) -> Page:
        return self._read(self.http.request(method.upper(), url, data=dict(data)))

    def _read(self, answer: httpx2.Response) -> Page:
        return read(str(answer.url), answer.status_code, answer.headers, answer.text, self.send, self.follow)

    def sign_in(self, user: str, password: str, between: tuple[tuple[str, ...], ...] = ()) -> str | None:
        """The name of the last page. `between` are commands that run before each form is sent."""
        steps = iter(between)
        seen = self.get("/account")
        for _ in range(3):
            given = {"login": {"username": user}, "password": {"current-password": password}}.get(seen.data_page or "")
            if given is None:
                break
            for command in next(steps, ()):
                subprocess.run(command, shell=True, check=True)
            form = seen.form(field=next(iter(given)))
            if any("current-password" in control.tokens for control in form.controls):
                given = {"username": user, "current-password": password}
            seen = form.fill(given).submit()
        return seen.data_page


def main(what: str, *words: str) -> None:
    if what == "keys":
        print(json.dumps(sorted(key["kid"] for key in Visitor().get("/jwks").json()["keys"])))
        return
    between: tuple[tuple[str, ...], ...] = ()
    if what == "across":
        ready = "curl -sf --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:8001/readyz -o /dev/null"
        between = (("systemctl stop homerealm@8001",),
                   ("systemctl start homerealm@8001", ready, "systemctl stop homerealm@8002"))  # fmt: skip
    name = Visitor().sign_in(*words, between=between)
    print(json.dumps({"page": name}))
    sys.exit(name != "account")


if __name__ == "__main__":
    main(*sys.argv[1:])
