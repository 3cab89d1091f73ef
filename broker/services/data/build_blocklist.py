"""Makes common-passwords.bin from lists that ship in PyPI packages under free licences.

    pip download --no-deps django zxcvbn
    python broker/services/data/build_blocklist.py django-*.whl zxcvbn-*.whl

The same packages give the same file. Sources and licences: common-passwords.txt beside it.
"""

from __future__ import annotations

import ast
import gzip
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from broker.services.blocklist import pack

SHORTEST = 6
"""Characters: no tenant accepts shorter passwords, listed or not."""
TARGET = Path(__file__).with_name("common-passwords.bin")


def words(wheel: Path) -> Iterator[str]:
    """Every listed word of one of the two packages."""
    with zipfile.ZipFile(wheel) as package:
        for name in package.namelist():
            if name.endswith("/common-passwords.txt.gz"):
                yield from gzip.decompress(package.read(name)).decode("utf-8").split("\n")
            elif name.endswith("/frequency_lists.py"):
                assigned = ast.parse(package.read(name).decode("utf-8")).body[0]
                if not isinstance(assigned, ast.Assign) or not isinstance(assigned.value, ast.Dict):
                    raise SystemExit(f"{wheel}: the frequency lists look different now")
                for value in assigned.value.values:
                    # "a,b,c".split(","): the list is the longest text in it.
                    yield from max(
                        (str(n.value) for n in ast.walk(value) if isinstance(n, ast.Constant)), key=len
                    ).split(",")


def main(*wheels: str) -> None:
    found = {word.strip() for wheel in wheels for word in words(Path(wheel))}
    packed = pack(word for word in found if len(word) >= SHORTEST)
    TARGET.write_bytes(packed)
    sys.stdout.write(f"{TARGET.name}: {len(found)} words, {len(packed)} bytes\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
