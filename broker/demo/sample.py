"""The people of the demo, and where they live. Made once; `--reset` starts afresh."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from broker.core.errors import IdentifierTaken
from broker.core.values import Actor, TenantId
from broker.wiring import running

PASSWORD = "tulip-harbour-anvil"


class Person(NamedTuple):
    tenant: str
    username: str | None
    email: str
    name: str
    note: str


BROKER = (
    Person("acme", "ada", "ada@acme.example", "Ada Lovelace", "has a password at Acme"),
    Person("acme", "grace", "grace@acme.example", "Grace Hopper", "support desk at Acme: /t/acme/admin"),
    Person("test-acme", "ada", "ada@acme.example", "Ada Lovelace", "the same person in Acme's test environment"),
    Person("globex", "linus", "linus@globex.example", "Linus Pauling", "has a password at Globex"),
)
UPSTREAM = (
    Person("contoso", None, "carol@contoso.example", "Carol Shaw", "signs in at Contoso, the upstream provider"),
)


def fill_once(config: Path, people: tuple[Person, ...], environ: Mapping[str, str]) -> None:
    """On the first start; later ones are quicker, and whom somebody deleted stays deleted."""
    mark = config.parent / "var" / "people-are-there"
    if not mark.exists():
        fill(config, people, environ)
        mark.touch()


def fill(config: Path, people: tuple[Person, ...], environ: Mapping[str, str]) -> None:
    """Add the people who are not there yet."""
    actor = Actor.command_line("demo")
    with running(config, environ=environ) as runtime:
        for person in people:
            tenant = runtime.tenant(TenantId(person.tenant))
            if tenant is None:
                continue
            with runtime.database.reading() as work:
                if work.users.find_by_email(tenant.directory, person.email):
                    continue  # a password that somebody changed stays changed, and no hash is made in vain
            try:
                runtime.desk.add(
                    tenant, email=person.email, username=person.username, name=person.name, password=PASSWORD, by=actor
                )
            except IdentifierTaken:
                continue
