"""What the server runs in one step, in Lua. Each says its keys, its arguments and the shape of its values."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name that the server knows it by."""

    name: str
    text: str
    sha: bytes
    once: bool = True
    """Whether a failover must not undo it."""


def _read(name: str, *, once: bool = True) -> Script:
    text = files(__name__).joinpath(f"{name}.lua").read_text("utf-8")
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().encode(), once)


TAKE = _read("take")
SWAP = _read("swap")
PUT_ABSENT = _read("put_absent")
COUNT = _read("count", once=False)
TRANSACTION_SAVE = _read("transaction_save")
LOGIN_FINISH = _read("login_finish")
LOGIN_CLOSE = _read("login_close")
SESSION_INDEX = _read("session_index", once=False)
SESSION_REPLACE = _read("session_replace")
GRANT_REDEEM = _read("grant_redeem")
GRANT_REFRESH = _read("grant_refresh")
GRANT_REVOKE = _read("grant_revoke")
THROTTLE_CHARGE = _read("throttle_charge", once=False)
THROTTLE_SOLVED = replace(THROTTLE_CHARGE, once=True)
"""The same with a solved challenge, which must not be good for a second attempt."""

BY_SHA = {one.sha: one for one in list(globals().values()) if isinstance(one, Script)}
