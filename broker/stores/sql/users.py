"""People, their identifiers and their password hashes."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, bindparam, delete, false, func, insert, or_, select, union, update
from sqlalchemy.exc import IntegrityError

from broker.core.errors import IdentifierTaken, InvalidIdentifier
from broker.core.identifiers import Email, lower_ascii, parse_email, parse_identifier, parse_username
from broker.core.ports import Clock, Credentials, Vault
from broker.core.values import ConnectionId, DirectoryId, Identity, User, UserId
from broker.stores.sql.identities import LinkedIdentities, dump, is_storable
from broker.stores.sql.statements import Statements
from broker.stores.sql.tables import identifiers, identities, users

KINDS = ("email", "username")
_LAST = "\U0010ffff"
"""Sorts after every character that an identifier may hold: the end of a range of prefixes."""

_COLUMNS = (
    users.c.id,
    users.c.directory,
    users.c.created_at,
    users.c.updated_at,
    users.c.connection,
    users.c.username,
    users.c.email,
    users.c.email_verified,
    users.c.blocked,
    users.c.epoch,
    users.c.hash.is_not(None).label("has_password"),
    users.c.must_change_password,
    users.c.profile,
)
_ID = users.c.id == bindparam("p_id")
_DIRECTORY = users.c.directory == bindparam("p_directory")
# Statements are built once: SQLAlchemy then only looks up what it compiled before.
_GET = select(*_COLUMNS).where(_ID)
_LOCK = select(*_COLUMNS, users.c.kinds).where(_ID).with_for_update()
_FIND = (
    select(*_COLUMNS, users.c.hash)
    .join_from(identifiers, users, identifiers.c.user_id == users.c.id)
    .where(
        identifiers.c.directory == bindparam("p_directory"),
        identifiers.c.connection == bindparam("p_connection"),
        identifiers.c.kind == bindparam("p_kind"),
        identifiers.c.key == bindparam("p_key"),
    )
)
_BY_IDENTITY = (
    select(*_COLUMNS)
    .join_from(identities, users, identities.c.user_id == users.c.id)
    .where(
        identities.c.directory == bindparam("p_directory"),
        identities.c.connection == bindparam("p_connection"),
        identities.c.issuer == bindparam("p_issuer"),
        identities.c.subject == bindparam("p_subject"),
    )
)


def _by(column: ColumnElement[Any]) -> Any:
    return select(*_COLUMNS).where(_DIRECTORY, column == bindparam("p_key")).order_by(users.c.created_at, users.c.id)


def _starting(column: ColumnElement[Any]) -> Any:
    return (
        select(*_COLUMNS)
        .where(_DIRECTORY, column >= bindparam("p_from"), column < bindparam("p_to"))
        .order_by(column, users.c.id)
        .limit(bindparam("p_limit"))
    )


_BY_EMAIL = _by(users.c.email_key)
_BY_USERNAME = _by(users.c.username_key)
# One range of one index each: a search costs the same among a thousand people and among a million.
_SEARCHES = tuple(_starting(c) for c in (users.c.username_key, users.c.email_key, users.c.name_key))
_PAGE = (
    select(*_COLUMNS)
    .where(_DIRECTORY, users.c.id > bindparam("p_after"))
    .order_by(users.c.id)
    .limit(bindparam("p_limit"))
)
_HASH = select(users.c.hash).where(_ID)
_HASH_LOCKED = _HASH.with_for_update()
_OWNERS = select(identifiers.c.kind).where(
    identifiers.c.directory == bindparam("p_directory"),
    identifiers.c.connection == bindparam("p_connection"),
    identifiers.c.kind == bindparam("p_kind"),
    identifiers.c.key == bindparam("p_key"),
    identifiers.c.user_id != bindparam("p_id"),
)
_ADD = insert(users)
_ADD_IDENTIFIER = insert(identifiers)
_DROP_IDENTIFIERS = delete(identifiers).where(identifiers.c.user_id == bindparam("p_id"))
_DELETE = delete(users).where(_ID)
_UPDATE = update(users).where(_ID)
_MOVE_EPOCH = _UPDATE.values(epoch=users.c.epoch + 1)
_EPOCH = select(users.c.epoch).where(_ID)
_REHASH = _UPDATE.where(users.c.hash == bindparam("p_old")).values(hash=bindparam("p_new"))


class SqlUsers:
    """Implements `broker.core.ports.Users`."""

    def __init__(self, statements: Statements, clock: Clock, vault: Vault) -> None:
        self._statements = statements
        self._clock = clock
        self._linked = LinkedIdentities(statements, vault)

    def get(self, id: UserId) -> User | None:
        return _maybe(self._statements.one(_GET, {"p_id": id})) if is_storable(id) else None

    def find(
        self,
        directory: DirectoryId,
        connection: ConnectionId,
        identifier: str,
        kinds: Sequence[str] = KINDS,
    ) -> Credentials | None:
        """One query. None for anything that is not an identifier of one of these kinds."""
        try:
            parsed = parse_identifier(identifier)
        except InvalidIdentifier:
            return None
        kind = "email" if isinstance(parsed, Email) else "username"
        if kind not in kinds:
            return None
        which = {"p_directory": directory, "p_connection": connection, "p_kind": kind, "p_key": parsed.key}
        row = self._statements.one(_FIND, which)
        return None if row is None else Credentials(_user(row), row[-1])

    def find_by_email(self, directory: DirectoryId, address: str) -> list[User]:
        try:
            key = parse_email(address).key
        except InvalidIdentifier:
            return []
        return [_user(row) for row in self._statements.all(_BY_EMAIL, {"p_directory": directory, "p_key": key})]

    def find_by_username(self, directory: DirectoryId, username: str) -> list[User]:
        try:
            key = parse_username(username).key
        except InvalidIdentifier:
            return []
        return [_user(row) for row in self._statements.all(_BY_USERNAME, {"p_directory": directory, "p_key": key})]

    def find_by_identity(
        self, directory: DirectoryId, connection: ConnectionId, issuer: str, subject: str
    ) -> User | None:
        if not (is_storable(issuer) and is_storable(subject)):
            return None
        which = {"p_directory": directory, "p_connection": connection, "p_issuer": issuer, "p_subject": subject}
        return _maybe(self._statements.one(_BY_IDENTITY, which))

    def search(self, directory: DirectoryId, text: str, limit: int = 50) -> list[User]:
        """Whoever has exactly this id, then by the start of username, address and name. Nothing for no text."""
        text = unicodedata.normalize("NFC", text).strip()
        if not is_storable(text):
            return []
        found: dict[UserId, User] = {}
        by_id = self.get(UserId(text))
        if by_id is not None and by_id.directory == directory:
            found[by_id.id] = by_id
        for statement, key in zip(_SEARCHES, (*[_prefix(text)] * 2, text.casefold()), strict=True):
            where = {"p_directory": directory, "p_from": key, "p_to": key + _LAST, "p_limit": limit}
            for row in self._statements.all(statement, where):
                found.setdefault(row.id, _user(row))
        return list(found.values())[:limit]

    def each(self, directory: DirectoryId, *, after: UserId | None = None, limit: int = 500) -> Iterator[User]:
        """One page, by id: ask again with the last one's id for the next."""
        where = {"p_directory": directory, "p_after": after or "", "p_limit": limit}
        return iter([_user(row) for row in self._statements.all(_PAGE, where)])

    def only_by(
        self, directory: DirectoryId, going: Sequence[ConnectionId], staying: Sequence[ConnectionId], limit: int
    ) -> int:
        """One query, for an operator: it may read every row of the connections."""

        def by(connections: Sequence[ConnectionId]) -> Any:
            return union(
                *(
                    select(table.c.user_id).where(
                        table.c.directory == directory, or_(false(), *(table.c.connection == id for id in connections))
                    )
                    for table in (identifiers, identities)
                )
            ).subquery()

        gone, left = by(going), by(staying)
        alone = select(gone.c.user_id).where(gone.c.user_id.not_in(select(left.c.user_id))).limit(limit).subquery()
        found = self._statements.one(select(func.count()).select_from(alone))
        return int(found[0]) if found is not None else 0

    def add(self, user: User, *, hash: str | None = None, kinds: Sequence[str] = ()) -> User:
        """`has_password` follows from `hash`. Raises `IdentifierTaken` and then has changed nothing.

        Raises `InvalidIdentifier` for an address or username that cannot be one, and `ValueError` for an unknown kind
        or for kinds without a database connection.
        """
        if unknown := set(kinds) - set(KINDS):
            raise ValueError(f"not a kind of identifier: {sorted(unknown)}")
        if kinds and user.connection is None:
            raise ValueError("identifiers belong to a database connection, and this user has none")
        user = replace(user, has_password=hash is not None)
        row = {
            **_row(user),
            "id": user.id,
            "directory": user.directory,
            "created_at": user.created_at,
            "updated_at": user.updated_at,
            "epoch": user.epoch,
            "kinds": " ".join(kind for kind in KINDS if kind in kinds),
            "hash": hash,
            "hash_changed_at": None if hash is None else user.created_at,
        }
        self._write(user, kinds, lambda: self._statements.change(_ADD, row))
        return user

    def update(self, id: UserId, change: Callable[[User], User]) -> User:
        """Identifiers follow the username and the address, `updated_at` follows the clock.

        Raises `IdentifierTaken`, `InvalidIdentifier`, `LookupError`, and `ValueError` for a change of what has its
        own way: id, directory, creation, password and epoch. `must_change_password` may be set here, never cleared.
        """
        self._statements.must_write()
        row = self._statements.one(_LOCK, {"p_id": id})
        if row is None:
            raise LookupError(id)
        before, kinds = _user(row), str(row.kinds).split()
        after = change(before)
        if after == before:
            return before
        for name in ("id", "directory", "created_at", "epoch", "has_password"):
            if getattr(after, name) != getattr(before, name):
                raise ValueError(f"update() does not change {name}")
        if before.must_change_password and not after.must_change_password:
            raise ValueError("only a new password clears must_change_password")
        if kinds and after.connection is None:
            raise ValueError("identifiers belong to a database connection, and this user would have none")
        after = replace(after, updated_at=self._clock.now())
        values = {**_row(after), "updated_at": after.updated_at}
        if before.connection == after.connection and _keys(before, kinds) == _keys(after, kinds):
            self._statements.change(_UPDATE.values(values), {"p_id": id})
        else:
            self._write(after, kinds, lambda: self._statements.change(_UPDATE.values(values), {"p_id": id}))
        return after

    def hash_of(self, id: UserId) -> str | None:
        """Inside `writing()` it stays this one until the end: what was compared is what is replaced."""
        row = self._statements.one(_HASH_LOCKED if self._statements.writable else _HASH, {"p_id": id})
        return None if row is None else row.hash

    def write_hash(self, id: UserId, hash: str, *, must_change: bool, at: datetime) -> None:
        """Raises `LookupError`."""
        values = {"hash": hash, "must_change_password": must_change, "hash_changed_at": at, "updated_at": at}
        if self._statements.change(_UPDATE.values(values), {"p_id": id}) == 0:
            raise LookupError(id)

    def rehash(self, id: UserId, old: str, new: str) -> bool:
        return self._statements.change(_REHASH, {"p_id": id, "p_old": old, "p_new": new}) == 1

    def move_epoch(self, id: UserId) -> int:
        """Raises `LookupError`."""
        self._statements.change(_MOVE_EPOCH, {"p_id": id})
        row = self._statements.one(_EPOCH, {"p_id": id})
        if row is None:
            raise LookupError(id)
        return int(row.epoch)

    def link(self, id: UserId, directory: DirectoryId, identity: Identity, at: datetime) -> None:
        """Linking again refreshes what the upstream says.

        Raises `IdentifierTaken`; `LookupError` for a user who is not in this directory; `InvalidIdentifier`.
        """
        self._linked.link(id, directory, identity, at)

    def identities(self, id: UserId) -> list[Identity]:
        return self._linked.of(id)

    def delete(self, id: UserId) -> None:
        """With all that refers to the user; the audit log stays. Nothing happens when nobody is there."""
        self._statements.change(_DELETE, {"p_id": id})

    def _write(self, user: User, kinds: Sequence[str], write: Callable[[], int]) -> None:
        """The row and its identifiers, or neither."""
        keys = [
            {"directory": user.directory, "connection": user.connection, "kind": kind, "key": key, "user_id": user.id}
            for kind, key in _keys(user, kinds)
        ]
        try:
            with self._statements.attempt():
                write()
                self._statements.change(_DROP_IDENTIFIERS, {"p_id": user.id})
                if keys:
                    self._statements.change(_ADD_IDENTIFIER, keys)
        except IntegrityError:
            for key in keys:
                which = {f"p_{name}": key[name] for name in ("directory", "connection", "kind", "key")}
                if self._statements.one(_OWNERS, {**which, "p_id": user.id}) is not None:
                    raise IdentifierTaken(str(key["kind"])) from None
            raise


def _user(row: Row[Any]) -> User:
    (
        id,
        directory,
        created_at,
        updated_at,
        connection,
        username,
        email,
        email_verified,
        blocked,
        epoch,
        has_password,
        must_change_password,
        profile,
    ) = row[: len(_COLUMNS)]
    return User(
        id=id,
        directory=directory,
        created_at=created_at,
        updated_at=updated_at,
        connection=connection,
        username=username,
        email=email,
        email_verified=email_verified,
        blocked=blocked,
        epoch=epoch,
        has_password=has_password,
        must_change_password=must_change_password,
        profile={} if profile == "{}" else json.loads(profile),
    )


def _maybe(row: Row[Any] | None) -> User | None:
    return None if row is None else _user(row)


def _row(user: User) -> Mapping[str, Any]:
    """What `update` may change. Raises `InvalidIdentifier`."""
    name = user.profile.get("name")
    name = unicodedata.normalize("NFC", name).strip().casefold() if isinstance(name, str) else ""
    return {
        "connection": user.connection,
        "username": user.username,
        "username_key": None if user.username is None else parse_username(user.username).key,
        "email": user.email,
        "email_key": None if user.email is None else parse_email(user.email).key,
        "email_verified": user.email_verified,
        "name_key": name if is_storable(name) else None,
        "blocked": user.blocked,
        "must_change_password": user.must_change_password,
        "profile": dump(user.profile),
    }


def _keys(user: User, kinds: Sequence[str]) -> list[tuple[str, str]]:
    """What signs the user in, as (kind, key)."""
    found = []
    if "email" in kinds and user.email is not None:
        found.append(("email", parse_email(user.email).key))
    if "username" in kinds and user.username is not None:
        found.append(("username", parse_username(user.username).key))
    return found


def _prefix(text: str) -> str:
    """The key that an identifier with this start would have."""
    try:
        return parse_identifier(text).key
    except InvalidIdentifier:
        return lower_ascii(text)
