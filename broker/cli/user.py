"""`homerealm user`: one user. The verbs of the support desk, by an operator at this machine."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.cli.options import config_option, json_option
from broker.core.errors import NotFound

if TYPE_CHECKING:
    from broker.core.tenant import Tenant
    from broker.core.values import Actor, User
    from broker.wiring import Runtime


@click.group()
def user() -> None:
    """One user of one tenant. IDENTIFIER is a username, an e-mail address or an id."""


def tenant_option(function: Any) -> Any:
    return click.option("--tenant", "tenant_id", required=True, metavar="T", help="acme, or test-acme.")(function)


def _command(name: str, help: str) -> Callable[[Callable[..., None]], click.Command]:
    """A subcommand with --config, --tenant and --json."""

    def decorate(function: Callable[..., None]) -> click.Command:
        return user.command(name, help=help)(config_option(tenant_option(json_option(function))))

    return decorate


@contextmanager
def _opened(config: Path, tenant_id: str) -> Iterator[tuple[Runtime, Tenant, Actor]]:
    """The stores, the tenant, and who is at the keyboard. Raises `NotFound`."""
    from broker.core.values import Actor, TenantId
    from broker.wiring import running

    with running(config) as runtime:
        tenant = runtime.tenant(TenantId(tenant_id))
        if tenant is None:
            known = ", ".join(sorted(runtime.settings.tenants))
            raise NotFound(f"no tenant {tenant_id!r}; there are: {known}", code="tenant.unknown")
        yield runtime, tenant, Actor.command_line(_operator())


def _operator() -> str:
    """Who is at the keyboard; in a container the account may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _find(runtime: Runtime, tenant: Tenant, identifier: str) -> User:
    try:
        return runtime.desk.find(tenant, identifier)
    except NotFound:
        raise NotFound(f"nobody is called {identifier!r} in {tenant.id}", code="user.unknown") from None


def _password(prompt: str) -> str:
    """From standard input, or asked twice at a terminal; never from an argument (`ps` shows those to everybody)."""
    if sys.stdin.isatty():
        return str(click.prompt(prompt, hide_input=True, confirmation_prompt=True, default="", show_default=False))
    try:
        return sys.stdin.read().rstrip("\r\n")
    except UnicodeDecodeError:
        raise click.UsageError("standard input is not text in UTF-8") from None


def _facts(one: User) -> dict[str, Any]:
    return {
        "id": one.id,
        "directory": one.directory,
        "connection": one.connection,
        "username": one.username,
        "email": one.email,
        "email_verified": one.email_verified,
        "name": one.profile.get("name"),
        "has_password": one.has_password,
        "must_change_password": one.must_change_password,
        "blocked": one.blocked,
        "created_at": one.created_at.isoformat(),
        "updated_at": one.updated_at.isoformat(),
    }


def _say(as_json: bool, facts: dict[str, Any], text: str) -> None:
    click.echo(json.dumps(facts) if as_json else text)


@user.command("add")
@config_option
@tenant_option
@click.option("--email", metavar="A", help="Counts as verified.")
@click.option("--username", metavar="U")
@click.option("--name", metavar="N", help="Full name.")
@click.option("--connection", metavar="ID", help="A database connection; the first one if not given.")
@json_option
def add(config: Path, tenant_id: str, email: str | None, username: str | None, name: str | None,
        connection: str | None, as_json: bool) -> None:  # fmt: skip
    """Add a user; the password comes from standard input (empty: none yet)."""
    if not email and not username:
        raise click.UsageError("give --email, --username, or both")
    password = _password("Password (empty: none yet)")
    with _opened(config, tenant_id) as (runtime, tenant, actor):
        added = _explained(
            tenant, lambda: runtime.desk.add(
                tenant, email=email, username=username, name=name, password=password or None, by=actor,
                connection=connection,
            )
        )  # fmt: skip
        _say(as_json, _facts(added), added.id)


@_command("show", "Everything about one user.")
@click.argument("identifier")
def show(config: Path, tenant_id: str, identifier: str, as_json: bool) -> None:
    with _opened(config, tenant_id) as (runtime, tenant, _):
        found = _find(runtime, tenant, identifier)
        facts = _facts(found) | {
            "identities": list(runtime.desk.identities(found)),
            "sessions": len([one for one in runtime.sessions.of(found.id) if one.epoch == found.epoch]),
        }
        width = max(map(len, facts))
        _say(
            as_json,
            facts,
            "\n".join(f"{key:{width}}  {'' if value is None else value}" for key, value in facts.items()),
        )


@_command("list", "All users, a line each.")
@click.option("--search", metavar="TEXT", default="", help="By the start of a username, address or name.")
def list_users(config: Path, tenant_id: str, search: str, as_json: bool) -> None:
    with _opened(config, tenant_id) as (runtime, tenant, _):
        found = runtime.desk.search(tenant, search) if search else _all(runtime, tenant)
        rows = list(found)
        if as_json:
            click.echo(json.dumps([_facts(one) for one in rows]))
            return
        for one in rows:
            state = "blocked" if one.blocked else "" if one.has_password or not one.connection else "no password"
            click.echo("\t".join((one.id, one.username or "-", one.email or "-", state)).rstrip("\t"))


def _all(runtime: Runtime, tenant: Tenant) -> Iterator[User]:
    after = None
    while True:
        with runtime.database.reading() as work:
            page = list(work.users.each(tenant.directory, after=after))
        yield from page
        if not page:
            return
        after = page[-1].id


@_command("block", "Nobody signs in to it; everything that is signed in ends.")
@click.argument("identifier")
def block(config: Path, tenant_id: str, identifier: str, as_json: bool) -> None:
    with _opened(config, tenant_id) as (runtime, tenant, actor):
        changed = runtime.desk.block(tenant, _find(runtime, tenant, identifier), actor, blocked=True)
        _say(as_json, _facts(changed), f"{changed.label} is blocked")


@_command("unblock", "Let somebody sign in again.")
@click.argument("identifier")
def unblock(config: Path, tenant_id: str, identifier: str, as_json: bool) -> None:
    with _opened(config, tenant_id) as (runtime, tenant, actor):
        changed = runtime.desk.block(tenant, _find(runtime, tenant, identifier), actor, blocked=False)
        _say(as_json, _facts(changed), f"{changed.label} may sign in again")


@_command("delete", "Delete somebody, for good.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.argument("identifier")
def delete(config: Path, tenant_id: str, identifier: str, yes: bool, as_json: bool) -> None:
    with _opened(config, tenant_id) as (runtime, tenant, actor):
        found = _find(runtime, tenant, identifier)
        if not yes and sys.stdin.isatty():
            click.confirm(f"Delete {found.label} ({found.id}) for good?", abort=True, err=True)
        runtime.desk.delete(tenant, found, actor)
        _say(as_json, {"id": found.id, "deleted": True}, f"{found.label} is deleted")


@_command("sign-out", "End every session, and refuse every token.")
@click.argument("identifier")
def sign_out(config: Path, tenant_id: str, identifier: str, as_json: bool) -> None:
    with _opened(config, tenant_id) as (runtime, tenant, actor):
        found = _find(runtime, tenant, identifier)
        runtime.sign_out.everywhere(tenant, found, actor)
        _say(as_json, {"id": found.id, "signed_out": True}, f"{found.label} is signed out everywhere")


@_command("set-password", "Set a password; it comes from standard input.")
@click.option("--must-change", is_flag=True, help="It has to be changed at the next sign-in.")
@click.argument("identifier")
def set_password(config: Path, tenant_id: str, identifier: str, must_change: bool, as_json: bool) -> None:
    password = _password("New password")
    if not password:
        raise click.UsageError("standard input has no password")
    with _opened(config, tenant_id) as (runtime, tenant, actor):
        found = _find(runtime, tenant, identifier)
        changed = _explained(
            tenant, lambda: runtime.desk.operate_password(tenant, found, password, actor, must_change=must_change)
        )  # fmt: skip
        _say(as_json, _facts(changed), f"the password of {changed.label} is set; everything older is signed out")


@_command("send-reset", "Send the mail that the user could ask for.")
@click.argument("identifier")
def send_reset(config: Path, tenant_id: str, identifier: str, as_json: bool) -> None:
    from broker.flows.passwords import Circumstances

    with _opened(config, tenant_id) as (runtime, tenant, actor):
        found = _find(runtime, tenant, identifier)
        how = Circumstances(reference=runtime.entropy.reference(), language=tenant.languages[0])
        sent = _explained(tenant, lambda: runtime.desk.send_reset(tenant, found, actor, how))
        _say(as_json, {"id": found.id, "mail": sent.value}, f"queued: {sent.value} to {found.email}")


@_command("login-link", "A one-time address that signs the user in to the page where a password is set.")
@click.argument("identifier")
def login_link(config: Path, tenant_id: str, identifier: str, as_json: bool) -> None:
    with _opened(config, tenant_id) as (runtime, tenant, actor):
        found = _find(runtime, tenant, identifier)
        url = _explained(tenant, lambda: runtime.desk.login_link(tenant, found, actor))
        _say(as_json, {"id": found.id, "url": url}, url)
        minutes = int(tenant.rules.reset.lifetime.total_seconds() // 60)
        click.echo(f"works once, for {minutes} minutes", err=True)


_REASONS = {
    "user.blocked": "the account is blocked: unblock it first",
    "user.no_address": "the account has no address that a mail could go to",
    "user.no_local_password": "this account has no password here: it signs in at its provider",
    "user.no_identifier": "give what people of this connection sign in with: {detail}",
    "user.ambiguous": "several accounts answer to this; say which by its id: {detail}",
    "mail.too_soon": "nothing was sent: the last mail is less than a minute old, or this hour's mails are used up",
    "connection.no_database": "this tenant has no such database connection",
    "identifier.taken": "somebody has this username or address already",
    "password.too_short": "the password is too short",
    "password.too_long": "the password is too long",
    "password.common": "the password is one that many people use",
    "password.personal": "the password is made of the user's or the service's name",
    "password.not_text": "the password has control characters",
    "password.unchanged": "this is the password already",
}


def _explained(tenant: Tenant, action: Any) -> Any:
    """Run an action; a refusal is said in words."""
    from broker.core.errors import BrokerError
    from broker.flows.passwords import PasswordRefused

    try:
        return action()
    except BrokerError as refusal:
        text = _REASONS.get(refusal.code, "")
        if not text:
            raise
        text = text.format(detail=refusal.detail)
        if isinstance(refusal, PasswordRefused) and refusal.refusals[0].limit:
            text += f": the limit is {refusal.refusals[0].limit} characters"
        raise BrokerError(text, code=refusal.code) from refusal
