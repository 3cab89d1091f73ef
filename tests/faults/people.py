"""Those who use the fleet while something fails: they sign in, refresh and reset, and remember what was answered."""

from __future__ import annotations

import base64
import email
import email.policy
import hashlib
import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode, urlsplit

from broker.demo.sample import PASSWORD
from tests.crash.visitor import Answer, Visitor
from tests.faults.fleet import CALLBACK, Fleet, person

VERIFIER = "a-verifier-of-forty-three-characters-or-more-x"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
ASK = {
    "response_type": "code", "client_id": "app", "redirect_uri": CALLBACK, "scope": "openid email offline_access",
    "state": "some state", "nonce": "some nonce", "code_challenge": CHALLENGE, "code_challenge_method": "S256",
}  # fmt: skip


EACH = 20
"""People of one thread of a crowd."""
APART = 65.0
"""Seconds between two links for one person: within a minute a second one is not sent."""


class Unexpected(Exception):
    """An answer that is not the right one."""

    def __init__(self, what: str, status: int, text: str) -> None:
        super().__init__(f"{what}: {status} {text[:400]!r}")
        self.status = status


@dataclass
class Tokens:
    access: str
    refresh: str


@dataclass
class App:
    """A relying party, and somebody who signs in to it."""

    fleet: Fleet
    passwords: dict[int, set[str]] = field(default_factory=dict)
    """What may work now, by person. One: it was answered. Two: the answer was lost."""
    onlookers: Iterator[int] = field(default_factory=lambda: itertools.cycle(range(59, 44, -1)))
    """Who looks whether it is well: somebody else each time, since a second link within a minute is not sent."""
    bystanders: Iterator[int] = field(default_factory=lambda: itertools.cycle((0, 43, 44)))
    """Who asks for a link while something lasts, for the same reason."""
    crowds: Iterator[int] = field(default_factory=itertools.count)
    asked_at: dict[int, float] = field(default_factory=dict)
    """When somebody of a crowd last asked for a link."""

    def visitor(self) -> Visitor:
        return Visitor(self.fleet.origin, connect=self.fleet.connect)

    def code(self, number: int, password: str) -> str:
        """Raises `Unexpected`, `OSError`."""
        visitor = self.visitor()
        page = visitor.get(f"/t/acme/authorize?{urlencode(ASK)}")
        page = send(visitor, page, "/login", username=person(number).email)
        page = send(visitor, page, "/login/password", password=password)
        if page.page == "consent":
            page = send(visitor, page, "/consent", decision="allow")
        found = parse_qs(urlsplit(page.location).query).get("code")
        if not found:
            raise Unexpected(f"a sign-in ended at {page.page or page.location}", page.status, page.text)
        return found[0]

    def token(self, **form: str) -> tuple[int, dict[str, str]]:
        """The status and the JSON of the answer. Raises `OSError`."""
        more = {"redirect_uri": CALLBACK, "code_verifier": VERIFIER} if "code" in form else {}
        connection = self.fleet.connect(0)
        headers = {
            "Host": f"localhost:{self.fleet.port}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Connection": "close",
        }
        try:
            connection.request("POST", "/t/acme/token", urlencode({"client_id": "app", **more, **form}), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        except http.client.HTTPException as error:
            raise ConnectionError(f"the answer broke off: {error!r}") from error
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            raise Unexpected("token", answer.status, text) from None

    def tokens(self, **form: str) -> Tokens:
        """Raises `Unexpected`, `OSError`."""
        status, found = self.token(**form)
        if status != 200:
            raise Unexpected(f"token for {form['grant_type']}", status, json.dumps(found))
        return Tokens(found["access_token"], found["refresh_token"])

    def journey(self, number: int, password: str = PASSWORD) -> None:
        """Sign in, exchange the code, refresh twice."""
        tokens = self.tokens(grant_type="authorization_code", code=self.code(number, password))
        for _ in range(2):
            tokens = self.tokens(grant_type="refresh_token", refresh_token=tokens.refresh)

    def forget(self, number: int) -> None:
        """Ask for a link. Raises `Unexpected`, `OSError`."""
        visitor = self.visitor()
        page = send(visitor, visitor.get("/t/acme/forgot"), "/forgot", username=person(number).email)
        if "to reset your password" not in page.text:
            raise Unexpected("forgot", page.status, page.text)


def send(visitor: Visitor, page: Answer, path: str, **fields: str) -> Answer:
    """Raises `Unexpected` when the page has no such form."""
    try:
        return visitor.send(page, path, **fields)
    except LookupError:
        raise Unexpected(f"{page.page or 'an answer'} has no form for {path}", page.status, page.text) from None


@dataclass(frozen=True)
class Trouble:
    """One thing that did not work, and when."""

    at: float
    what: str
    status: int | None
    """None: there was no answer."""


@dataclass
class Crowd:
    """Threads that use the fleet until the block ends; and the books, to be checked against what is there at last.

    Each has people of its own, so that what a lost answer means is known: the one before, or the one asked for.
    """

    app: App
    size: int = 2
    pause: float = 0.1
    resets_every: int = 4
    """A reset for so many logins; a person gets five mails an hour."""
    troubles: list[Trouble] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    asked: Counter[int] = field(default_factory=Counter)
    """How often a link was asked for, and that was answered, by person."""
    twice: list[str] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)

    def __enter__(self) -> Crowd:
        # Each crowd has other people reset.
        self._first = 3 * next(self.app.crowds)
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._live, args=(number,)) for number in range(self.size)]
        self._threads.append(threading.Thread(target=self._probe))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _probe(self) -> None:
        """As a proxy looks whom it can send people to."""
        while not self._end.wait(0.2):
            for replica in self.app.fleet.replicas:
                replica.well()

    def _live(self, first: int) -> None:
        mine = range(1 + first * EACH, 1 + (first + 1) * EACH)
        turn = 0
        while not self._end.is_set():
            number = mine[(self._first + turn) % EACH]
            self.seen.add(number)
            turn += 1
            # Of those whose turn it is next, the first who may have a link again.
            asks = [one for one in (*mine, *mine)[(number - mine[0]) :] if self._may_ask(one)][:1]
            for name, step, who in (("login", self._sign_in, [number]), ("reset", self._reset, asks)):
                try:
                    if name == "login" or (who and turn % self.resets_every == 1 and self._is_time(mine)):
                        step(who[0])
                        self.seen.add(who[0])
                        self.done[name] += 1
                except Unexpected as error:
                    self.troubles.append(Trouble(time.monotonic(), str(error), error.status))
                except OSError as error:
                    self.troubles.append(Trouble(time.monotonic(), f"{name}: {error!r}", None))
            self._end.wait(self.pause)

    def _sign_in(self, number: int) -> None:
        """With codes and refresh tokens used again when the answer to their first use was lost."""
        code = self.app.code(number, self._password(number))
        tokens = self._once(grant_type="authorization_code", code=code)
        for _ in range(2):
            if tokens is None:
                return
            tokens = self._once(grant_type="refresh_token", refresh_token=tokens.refresh)

    def _once(self, **form: str) -> Tokens | None:
        """None: the answer was lost, and it cannot be had again."""
        try:
            return self.app.tokens(**form)
        except OSError:
            status, _ = self.app.token(**form)
            # The one whose answer was lost may not have come about.
            return None if status != 200 else Tokens("", _["refresh_token"])

    def _password(self, number: int) -> str:
        """The one that works; found out when that is not known."""
        known = self.app.passwords.setdefault(number, {PASSWORD})
        if len(known) > 1:
            self.settle(number)
        (password,) = self.app.passwords[number]
        return password

    def settle(self, number: int) -> None:
        """Exactly one of those that may work does. Raises `AssertionError`, `Unexpected`, `OSError`."""
        works = [password for password in sorted(self.app.passwords[number]) if self._works(number, password)]
        assert len(works) == 1, f"of {len(self.app.passwords[number])} passwords {len(works)} work for person {number}"
        self.app.passwords[number] = set(works)

    def _works(self, number: int, password: str) -> bool:
        try:
            self.app.code(number, password)
        except Unexpected as error:
            if error.status == 422:
                return False
            raise
        return True

    def _is_time(self, mine: range) -> bool:
        """Not so often that everybody has asked within a minute: then nobody may."""
        last = max(self.app.asked_at.get(number, -APART) for number in mine)
        return time.monotonic() - last >= APART / EACH

    def _may_ask(self, number: int) -> bool:
        return time.monotonic() - self.app.asked_at.get(number, -APART) >= APART

    def _reset(self, number: int) -> None:
        """Ask, open the link, save; and once more with the same link, which must not work."""
        before = len(self.app.fleet.mailbox.to(person(number).email, "reset"))
        self.app.asked_at[number] = time.monotonic()  # also when the answer is lost: it may have been sent
        self.app.forget(number)
        self.asked[number] += 1
        deadline = time.monotonic() + 20
        while len(mails := self.app.fleet.mailbox.to(person(number).email, "reset")) <= before:
            if self._end.is_set() or time.monotonic() > deadline:
                return  # whether it came at last is looked at in the end
            self._end.wait(0.1)
        self._save(number, mails[-1].link("/reset?ticket="))

    def _save(self, number: int, link: str) -> None:
        old, new = self._password(number), f"copper meadow violin {time.monotonic_ns()}"
        visitor = self.app.visitor()
        form = visitor.get(link)
        try:
            page = send(visitor, form, "/reset", password=new)
        except OSError:
            self.app.passwords[number] = {old, new}
            raise
        if page.page not in ("reset-done", "login"):
            if page.status >= 500:
                self.app.passwords[number] = {old, new}
            raise Unexpected("reset", page.status, page.text)
        self.app.passwords[number] = {new}
        other = self.app.visitor()
        other.cookies = dict(visitor.cookies)
        again = send(other, form, "/reset", password=f"{new} again")
        if again.page in ("reset-done", "login") and again.status < 400:
            self.twice.append(link)
            self.app.passwords[number].add(f"{new} again")

    def check_the_books(self, lost_answer: Callable[[float], bool] = lambda _at: False) -> None:
        """Nothing that was answered is lost, nothing worked twice. `lost_answer`: whether the answer of a mail server
        may have been lost at that time (`time.time`); the mail comes again then. Raises `AssertionError`."""
        assert not self.twice, "a link worked twice"
        for number in self.seen & self.app.passwords.keys():
            self.settle(number)
        for number, times in self.asked.items():
            came = links(self.app.fleet, number)
            assert came >= min(times, 5), f"{times} links were promised to person {number}, {came} came"
        again = [at for at in sent_again(self.app.fleet) if not lost_answer(at)]
        assert not again, f"a mail was sent twice: {again}"


def links(fleet: Fleet, number: int) -> int:
    """How many came to a person, each counted once."""
    return len({str(mail.message["Message-ID"]) for mail in fleet.mailbox.to(person(number).email, "reset")})


def sent_again(fleet: Fleet) -> list[float]:
    """Of each mail that came more than once: when it came first."""
    came: dict[str, list[float]] = {}
    for file in (fleet.folder / "mail" / "new").iterdir():
        name = str(email.message_from_bytes(file.read_bytes(), policy=email.policy.default)["Message-ID"])
        came.setdefault(name, []).append(file.stat().st_mtime)
    return [min(times) for times in came.values() if len(times) > 1]
