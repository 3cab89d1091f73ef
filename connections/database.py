"""Passwords that live here: sign in with an address or a username, reset by mail.

Nothing in this file writes a password: flows/passwords does, against a proof (SECURITY 1).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from broker.sdk import (
    Busy,
    Connection,
    ConnectionSettings,
    Credentials,
    Identity,
    LocalPasswords,
    LocalReset,
    ResetHow,
    Unavailable,
    User,
    wrong,
)


class DatabaseSettings(ConnectionSettings):
    """A user database of this tenant."""

    identifiers: tuple[Literal["email", "username"], ...] = Field(default=("email", "username"), min_length=1)
    """What people sign in with."""
    signup: bool = False
    """Whether people may make an account themselves. It begins with a proven address."""

    @field_validator("identifiers")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise wrong("names one of them twice; each once would be right")
        return value

    @model_validator(mode="after")
    def _resets_here(self) -> DatabaseSettings:
        reset = self.reset
        if reset is not None and (reset.how not in (None, ResetHow.LOCAL) or reset.url or reset.hint_parameter):
            raise wrong("leads elsewhere, and the passwords are here; how: local would be right", key="reset")
        return self


class Database(Connection[DatabaseSettings], LocalPasswords, LocalReset):
    """`type: database`."""

    Settings = DatabaseSettings

    def look_up(self, identifier: str) -> Credentials | None:
        with self.tools.database.asking() as work:
            return work.users.find(self.tools.tenant.directory, self.id, identifier, self.settings.identifiers)

    def compare(self, found: Credentials | None, password: str) -> Identity | None:
        """Whether somebody is blocked is the policy's question, asked after the password was right, so that it tells
        nobody else."""
        right = self.tools.hasher.verify(password, found.hash if found else None)
        if found is None or not right:
            return None
        self._renew(found, password)
        # Everything was read at one moment: a password that is replaced right now is not good for the new epoch.
        return Identity(self.id, self.tools.tenant.issuer, found.user.id, self.tools.clock.now(), ("pwd",),
                        private={"epoch": str(found.user.epoch)})  # fmt: skip

    def _renew(self, found: Credentials, password: str) -> None:
        """Replace a hash of yesterday's strength while the password is at hand. If not now, then next time."""
        if found.hash is None or not self.tools.hasher.outdated(found.hash):
            return
        try:
            stronger = self.tools.hasher.hash(password)
            with self.tools.database.writing() as work:
                work.users.rehash(found.user.id, found.hash, stronger)
        except (Busy, Unavailable):
            return

    def find(self, identifier: str) -> list[User]:
        """By what signs in here, and by the address that mail goes to."""
        directory = self.tools.tenant.directory
        with self.tools.database.reading() as work:
            signs_in = work.users.find(directory, self.id, identifier, self.settings.identifiers)
            reached = work.users.find_by_email(directory, identifier) if "@" in identifier else []
        found = {signs_in.user.id: signs_in.user} if signs_in else {}
        found |= {user.id: user for user in reached if user.connection == self.id}
        return list(found.values())
