"""`python -m broker`: the same as `homerealm`."""

from __future__ import annotations

from broker.cli import main

if __name__ == "__main__":
    main(prog_name="homerealm")
