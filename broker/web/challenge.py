"""Challenges in forms, while passwords are tried in masses: shown by `Chrome.puzzle`, met by what a form sends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from broker.core.attempts import Puzzle
from broker.flows.guard import Origin
from broker.web.visit import Visit


def puzzles(current: Visit, tx: str) -> Callable[[str], Puzzle] | None:
    """Makes the challenge of a form; None where none is asked for, which costs no look at any store."""
    if not current.runtime.guard.demands(current.tenant):
        return None
    return lambda form: current.runtime.puzzles.make(*_bound(current, tx, form))


def origin(current: Visit, form: str) -> Origin:
    """Where an attempt comes from, with the challenge that its form met."""
    answer, waited = current.form.get("challenge", ""), current.form.get("waited", "")
    if not answer and not waited:
        return current.origin
    met = current.runtime.puzzles.met(answer, waited, *_bound(current, current.form.get("tx", ""), form))
    if met is None:
        return current.origin
    return replace(current.origin, solved=met.id, patient=met.patient)


def _bound(current: Visit, tx: str, form: str) -> tuple[str, ...]:
    return current.tenant.id, tx, current.browser, form
