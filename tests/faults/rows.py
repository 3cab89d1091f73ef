"""The rows of docs/faults.md, as measured. They are written where HOMEREALM_FAULTS names the file (`make faults`)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

BEGIN, END = "<!-- measured: make faults -->\n", "<!-- end -->"
HEAD = "| fault | what was done | healthy again after | lost | said |\n|---|---|---|---|---|\n"


@dataclass(frozen=True)
class Row:
    title: str
    done: str
    seconds: float
    """From the blow, or from the end of a fault that lasts, until everything worked."""
    lost: str
    event: str

    def line(self) -> str:
        return f"| {self.title} | {self.done} | {self.seconds:.1f} s | {self.lost} | {self.event} |\n"


def titles(file: Path) -> set[str]:
    """The faults that have a row."""
    table = file.read_text().partition(BEGIN)[2].partition(END)[0]
    return {
        line.split("|")[1].strip() for line in table.removeprefix("\n" + HEAD).splitlines() if line.startswith("| ")
    }


def note(row: Row) -> None:
    """Replaces the row of the same fault, or adds one."""
    print(row.line(), end="")
    if not (name := os.environ.get("HOMEREALM_FAULTS")):
        return
    file = Path(name)
    before, _, rest = file.read_text().partition(BEGIN)
    table, _, after = rest.partition(END)
    lines = {line.split("|")[1].strip(): line for line in table.removeprefix("\n" + HEAD).splitlines(keepends=True)
             if line.startswith("| ") and not line.startswith("| fault ")}  # fmt: skip
    lines[row.title] = row.line()
    file.write_text(before + BEGIN + "\n" + HEAD + "".join(lines.values()) + "\n" + END + after)
