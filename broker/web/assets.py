"""Static files whose address carries a digest of their content: cached for ever, and never stale.

Read once, kept in memory, compressed once. A tenant's colour is part of the style sheet's address, so that it reaches
the page without inline style (`style-src 'self'`) and without a request of its own.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from broker.core import brand

SHEET = "hosted.css"
COLOR = "#1b5cc4"
"""Of tenants that name none."""
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".jpg": "image/jpeg",
}
LOGO_TYPES = frozenset({".svg", ".png", ".webp", ".jpg"})
LOGO_LIMIT = 200_000
"""Bytes."""
_TINTED = re.compile(r"hosted-([0-9a-f]{6})-([0-9a-f]{6})\.[0-9a-f]{12}\.css")


@dataclass(frozen=True, slots=True)
class Asset:
    """One file. `compressed` is gzip, and None where that would not make it smaller."""

    name: str
    body: bytes = field(repr=False)
    content_type: str
    compressed: bytes | None = field(repr=False)

    def answer(self, accept_encoding: str = "") -> tuple[Mapping[str, str], bytes]:
        """The headers and the body for a client that accepts these encodings (RFC 9110, 12.5.3)."""
        headers = {
            "Content-Type": self.content_type,
            "Cache-Control": "public, max-age=31536000, immutable",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            # A drawing that is opened as a page of its own must not run what a tenant put into it.
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
            "Vary": "Accept-Encoding",
        }
        if self.compressed is not None and _accepts_gzip(accept_encoding):
            return {**headers, "Content-Encoding": "gzip"}, self.compressed
        return headers, self.body


class Assets:
    """The files of templates/static and the logos of tenants. Filled at start, then only read."""

    def __init__(self, folder: Path, prefix: str = "/static") -> None:
        self.prefix = prefix
        self._by_address: dict[str, Asset] = {}
        self._addresses: dict[str, str] = {}
        self._sheet = (folder / SHEET).read_text(encoding="utf-8")
        for path in sorted(folder.iterdir()):
            if path.suffix in TYPES and path.name != SHEET:
                self._addresses[path.name] = self._add(path.stem, path.suffix, path.read_bytes())
        self.tinted = lru_cache(maxsize=256)(self._tinted)
        self._address_of = lru_cache(maxsize=4096)(self._sheet_address)

    def url(self, name: str) -> str:
        """The address of a file of templates/static. Raises `KeyError`."""
        return self._addresses[name]

    def sheet_url(self, color: str | None = None, color_dark: str | None = None) -> str:
        """The address of the style sheet in a tenant's colours. Raises `ValueError` for what is not `#rrggbb`."""
        return self._address_of(color, color_dark)

    def add_logo(self, path: Path) -> str:
        """The address of a tenant's logo. Raises `ValueError` for a kind or size that is not accepted, `OSError`."""
        if path.suffix.lower() not in LOGO_TYPES:
            raise ValueError(f"{path.name}: a logo is one of {', '.join(sorted(LOGO_TYPES))}")
        if path.stat().st_size > LOGO_LIMIT:
            raise ValueError(f"{path.name}: a logo has at most {LOGO_LIMIT:,} bytes")
        return self._add("logo", path.suffix.lower(), path.read_bytes())

    def find(self, name: str) -> Asset | None:
        """The file behind the last part of an address; None: nothing of ours, or of an older version."""
        if (known := self._by_address.get(name)) is not None:
            return known
        if (match := _TINTED.fullmatch(name)) is None:
            return None
        asset = self.tinted(match[1], match[2])
        return asset if asset.name == name else None

    def _sheet_address(self, color: str | None, color_dark: str | None) -> str:
        palette = brand.palette(color or COLOR, color_dark)
        return f"{self.prefix}/{self.tinted(palette.light.accent[1:], palette.dark.accent[1:]).name}"

    def _tinted(self, light: str, dark: str) -> Asset:
        """The style sheet with two accents, `rrggbb` each. Whoever asks for odd colours gets them, and harms nobody."""
        body = self._sheet + (
            f":root{{--accent:#{light};--on-accent:{brand.ink(f'#{light}')}}}\n"
            f"@media (prefers-color-scheme:dark){{:root{{--accent:#{dark};--on-accent:{brand.ink(f'#{dark}')}}}}}\n"
        )
        return _asset(f"hosted-{light}-{dark}", ".css", body.encode())

    def _add(self, stem: str, suffix: str, body: bytes) -> str:
        asset = _asset(stem, suffix, body)
        self._by_address[asset.name] = asset
        return f"{self.prefix}/{asset.name}"


def _asset(stem: str, suffix: str, body: bytes) -> Asset:
    name = f"{stem}.{sha256(body).hexdigest()[:12]}{suffix}"
    compressed = gzip.compress(body, 9, mtime=0)
    return Asset(name, body, TYPES[suffix], compressed if len(compressed) < len(body) else None)


def _accepts_gzip(header: str) -> bool:
    for part in header.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
