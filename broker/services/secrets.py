"""Randomness, the installation's key, and what is derived from it. The only module that makes secrets."""

from __future__ import annotations

import binascii
import fcntl
import hashlib
import hmac
import os
import secrets
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_ABYTES,
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
)
from nacl.exceptions import CryptoError

from broker.core.errors import ConfigurationError

KEY_BYTES = 32
MAC_LENGTH = 43
"""Characters of a whole MAC."""
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VERSION = b"\x01"
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES


class SystemEntropy:
    """Implements `broker.core.ports.Entropy` with the operating system's generator."""

    def token(self, bytes: int = 32) -> str:
        """`bytes` bytes of randomness in URL-safe base64 without padding."""
        return secrets.token_urlsafe(bytes)

    def reference(self) -> str:
        """50 bits in Crockford's base32, which has no I, L, O and U: `7K3Q-XW92-4T`."""
        number = int.from_bytes(secrets.token_bytes(7))
        text = "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(0, 50, 5))
        return f"{text[:4]}-{text[4:8]}-{text[8:]}"


class SecretVault:
    """Implements `broker.core.ports.Vault` on one key of the installation.

    Each use has a key of its own, derived by HKDF (RFC 5869). Sealing is XChaCha20-Poly1305: its nonces have 192 bits,
    so that random ones can be used without counting messages.
    """

    def __init__(self, secret_key: bytes, others: Sequence[bytes] = ()) -> None:
        """Everything is made with `secret_key`; what was made with one of `others` is recognised, too.

        Raises `ConfigurationError` for a key of less than 32 bytes.
        """
        keys = (secret_key, *others)
        for key in keys:
            if len(key) < KEY_BYTES:
                raise ConfigurationError([f"secret_key: has {len(key)} bytes, at least {KEY_BYTES} are needed"])
        self._opening = tuple(_derive(key, b"homerealm seal 1") for key in keys)
        self._sealing = self._opening[0]
        self._recognising = tuple(_Mac(_derive(key, b"homerealm mac 1")) for key in keys)

    def seal(self, plain: bytes, place: str) -> bytes:
        """Encrypted and bound to `place`, such as `outbox.payload.<id>`: moved elsewhere, it does not open."""
        nonce = secrets.token_bytes(_NONCE)
        return _VERSION + nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(plain, _bytes(place), nonce, self._sealing)

    def open(self, sealed: bytes, place: str) -> bytes:
        """Raises `ValueError` for anything that was not sealed by one of our keys for this very place."""
        return self._opened(sealed, place)[0]

    def resealed(self, sealed: bytes, place: str) -> bytes | None:
        """The same, sealed with the key of the moment; None when it is so already. Raises as `open`."""
        plain, by = self._opened(sealed, place)
        return None if by is self._sealing else self.seal(plain, place)

    def _opened(self, sealed: bytes, place: str) -> tuple[bytes, bytes]:
        """What it says, and the key that it was sealed with."""
        sealed = bytes(sealed)
        if (
            len(sealed) < len(_VERSION) + _NONCE + crypto_aead_xchacha20poly1305_ietf_ABYTES
            or sealed[: len(_VERSION)] != _VERSION
        ):
            raise ValueError(f"not a sealed value: {place}")
        nonce, text = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
        for key in self._opening:
            try:
                return crypto_aead_xchacha20poly1305_ietf_decrypt(text, _bytes(place), nonce, key), key
            except CryptoError:
                continue
        raise ValueError(f"sealed with another key, for another place, or changed: {place}")

    def mac(self, purpose: str, *parts: str) -> str:
        """HMAC-SHA256, 43 characters. Every part goes in with its length, so that parts cannot shift."""
        return _text(self._recognising[0].of(_message(purpose, parts)))

    def is_mac(self, given: str, purpose: str, *parts: str, length: int = MAC_LENGTH) -> bool:
        """Whether it is the MAC of these, or its first `length` characters, by any of our keys. In constant time."""
        message, claimed = _message(purpose, parts), _bytes(given)
        found = False
        for key in self._recognising:
            expected = _text(key.of(message))[:length]
            found |= hmac.compare_digest(expected.encode("ascii"), claimed)
        return found

    def digest(self, secret: str) -> str:
        """SHA-256, 43 characters. Not for passwords: those are guessable and need a slow hash."""
        return _text(hashlib.sha256(_bytes(secret)).digest())


class _Mac:
    """HMAC-SHA256 (RFC 2104) whose two key blocks are hashed already: beginning anew takes three times as long."""

    def __init__(self, key: bytes) -> None:
        """`key` is no longer than a block of SHA-256."""
        block = key.ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def of(self, message: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()


def read_or_make_key(path: Path) -> bytes:
    """The installation's secret key; made on first use, readable by its owner alone.

    The file holds base64 (or hex) text of 32 bytes or more. Processes that start at the same time get the same key.
    Raises `ConfigurationError` when the file cannot be read or written, or does not hold a key.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # Released by the kernel when its holder dies, so a crash here blocks nobody.
            fcntl.flock(folder, fcntl.LOCK_EX)
            if not path.exists():
                _make_key(path)
                os.fsync(folder)
        finally:
            os.close(folder)
        return _parse_key(path.read_bytes())
    except OSError as error:
        raise ConfigurationError([f"{path}: {error.strerror or error}"]) from error
    except ValueError as error:
        raise ConfigurationError([f"{path}: {error}"]) from None


def _make_key(path: Path) -> None:
    text = urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n"
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _parse_key(content: bytes) -> bytes:
    try:
        text = content.strip()
        key = b64decode(text.replace(b"-", b"+").replace(b"_", b"/") + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise ValueError("is not a key: it holds no base64 text; remove it to have one made") from None
    if len(key) < KEY_BYTES:
        raise ValueError(f"is not a key: it holds {len(key)} bytes, at least {KEY_BYTES} are needed")
    if len(set(key)) < KEY_BYTES // 4:
        raise ValueError("is not a key: it is not random")
    return key


def _message(purpose: str, parts: Sequence[str]) -> bytes:
    raws = [text.encode("utf-8", "surrogatepass") for text in (purpose, *parts)]
    return b"".join([len(raw).to_bytes(8) + raw for raw in raws])


def _derive(key: bytes, use: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=use).derive(key)


def _bytes(text: str) -> bytes:
    # What a client sent may hold lone surrogates; it must still have one encoding, and only one.
    return text.encode("utf-8", "surrogatepass")


def _text(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).translate(_URL_SAFE).rstrip(b"=").decode("ascii")
