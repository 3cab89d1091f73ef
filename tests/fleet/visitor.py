"""Somebody at a browser in the guide's machine: comes by the public name, through TLS, and says as JSON what was seen.

visitor.py sign-in USER PASSWORD      signs in to the account page; exit status 1 when the page is another
visitor.py across USER PASSWORD       the same, and each replica is away during a part of it
visitor.py keys                       the ids of the published signing keys
visitor.py code                       the folders that the processes of the service run from
visitor.py kill-web PORT              a web process of that replica is killed; until another one has taken its place
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2

from broker.testing.page import Page, read
from tests.crash.processes import wait_until

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

    def send(self, method: str, url: str, data: list[tuple[str, str]]) -> Page:
        return self._read(self.http.request(method, url, data=dict(data)))

    def _read(self, answer: httpx2.Response) -> Page:
        return read(str(answer.url), answer.status_code, answer.headers, answer.text, self.send, self.follow)

    def sign_in(self, user: str, password: str) -> Iterator[str | None]:
        """The name of each page that comes, the first before anything is typed."""
        seen = self.get("/account")
        yield seen.data_page
        for _ in range(3):
            wanted = {"login": "username", "password": "current-password"}.get(seen.data_page or "")
            if wanted is None:
                break
            form = seen.form(field=wanted)
            given = {"username": user, "current-password": password}
            there = {token for control in form.controls for token in control.tokens}
            seen = form.fill({name: value for name, value in given.items() if name in there}).submit()
            yield seen.data_page


def across(user: str, password: str) -> str | None:
    """One replica goes when the page is on the screen, the other when somebody is signed in."""
    visitor = Visitor()
    pages = visitor.sign_in(user, password)
    next(pages)
    systemctl("stop", "8001")
    *_, _last = pages
    systemctl("start", "8001")
    systemctl("stop", "8002")
    return visitor.get("/account").data_page


def systemctl(verb: str, port: str) -> None:
    subprocess.run(["systemctl", verb, f"homerealm@{port}"], check=True)
    if verb == "start":
        url = f"http://127.0.0.1:{port}/readyz"
        waiting = ["curl", "-sf", "--retry", "20", "--retry-connrefused", "--retry-delay", "1", "-o", "/dev/null", url]
        subprocess.run(waiting, check=True)


def processes() -> dict[int, list[str]]:
    """The command of every process of the service's user."""
    user, found = pwd.getpwnam("homerealm").pw_uid, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_text().split("\0")
            if folder.stat().st_uid == user and words[0]:
                found[int(folder.name)] = words
    return found


def code() -> list[str]:
    """The folder of the interpreter of each process: what it imports lies in there, too."""
    return sorted({str(Path(words[0]).parents[1]) for words in processes().values() if "/opt/" in words[0]})


def kill_web(port: str) -> int:
    supervisor = Path(f"/run/units/homerealm@{port}").read_text()
    killed, *_ = web = of(supervisor)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: bool(set(of(supervisor)) - set(web)), f"another one in the place of {killed}")
    return killed


def of(supervisor: str) -> list[int]:
    """Its web processes: the first ones are forked and have a name, later ones are programs."""
    found = []
    for pid, words in processes().items():
        with contextlib.suppress(OSError):
            told = Path(f"/proc/{pid}/status").read_text()
            if f"\nPPid:\t{supervisor}\n" in told and ("broker.wsgi" in words or "Name:\tbroker.wsgi\n" in told):
                found.append(pid)
    return found


def main(what: str, *words: str) -> None:
    if what in ("code", "kill-web"):
        print(json.dumps(code() if what == "code" else kill_web(*words)))
        return
    if what == "keys":
        print(json.dumps(sorted(key["kid"] for key in Visitor().get("/jwks").json()["keys"])))
        return
    if what == "across":
        name = across(*words)
    else:
        *_, name = Visitor().sign_in(*words)
    print(json.dumps({"page": name}))
    sys.exit(name != "account")


if __name__ == "__main__":
    main(*sys.argv[1:])
