"""Every number that an operator may look at. docs/reference/metrics.md is generated from this table.

Labels come from the configuration and from tables of ours, never from a request, so that nobody outside can make a
series; and each process keeps at most `SERIES` sets of labels of one metric, the rest as `other`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

PREFIX = "homerealm_"
SERIES = 5000
OTHER = "other"


class Metric(NamedTuple):
    kind: str
    """`counter` (the exposed name ends in `_total`), `histogram` (seconds) or `gauge`."""
    help: str
    labels: tuple[str, ...] = ()
    over: str = "sum"
    """Gauges of several processes: `sum` or `max`."""


SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper edges of the buckets of every histogram."""

METRICS: Mapping[str, Metric] = {
    "logins": Metric("counter", "Logins by how they ended, or where they were refused.",
                     ("tenant", "connection", "outcome")),
    "resets": Metric("counter", "The reset funnel: asked, sent, opened, done; elsewhere and refused beside it.",
                     ("tenant", "connection", "step")),
    "throttled": Metric("counter", "Attempts that were told to wait.", ("tenant",)),
    "busy": Metric("counter", "Requests that were refused because the queue of password hashes was full.", ("tenant",)),
    "failures": Metric("counter", "Answers of 5xx by their code.", ("code",)),
    "outages": Metric("counter", "How often a store stopped to answer.", ("store",)),
    "jobs": Metric("counter", "Jobs of the outbox by outcome.", ("kind", "outcome")),
    "http": Metric("histogram", "Requests by route and class of status; the time is that of the whole answer.",
                   ("route", "method", "status")),
    "upstream": Metric("histogram", "Calls to providers by host.", ("host",)),
    "upstream_failures": Metric("counter", "Calls to providers that brought no answer.", ("host",)),
    "hash": Metric("histogram", "Password hashes, with the time that they waited.", ("what",)),
    "hash_refused": Metric("counter", "Hashes that found the queue full."),
    "hash_callers": Metric("gauge", "Requests that have a hash made, or wait for one."),
    "outbox_jobs": Metric("gauge", "Jobs by state.", ("state",), "max"),
    "outbox_oldest_seconds": Metric("gauge", "How long the job that waits longest is due. A retry is due later.",
                                    (), "max"),
    "mail_server_down": Metric("gauge", "1 while the mail server of a tenant does not answer or does not let us in.",
                               ("tenant",), "max"),
    "audit_place": Metric("gauge", "The end of the audit chain.", (), "max"),
    "worker_round_timestamp_seconds": Metric("gauge", "When the background worker did its last round.", (), "max"),
    "schema_revision": Metric("gauge", "The revision of the tables of the database.", (), "max"),
    "schema_unfit": Metric("gauge", "1 while this version cannot work with them.", (), "max"),
    "store_missing": Metric("gauge", "1 while the background worker cannot use it.", ("store",), "max"),
    "config_info": Metric("gauge", "Processes that run a version of the configuration.", ("version",)),
    "config_refused": Metric("gauge", "1 while changed files are refused.", (), "max"),
    "events_dropped": Metric("counter", "Lines of the log that were lost."),
    "stories_dropped": Metric("counter", "Stories that were lost."),
}  # fmt: skip

PROCESSES: Mapping[str, Metric] = {
    "processes": Metric("gauge", "Living processes.", ("role",)),
    "resident_memory_bytes": Metric("gauge", "Memory of the living processes.", ("role",)),
    "open_files": Metric("gauge", "Open file descriptors of the living processes.", ("role",)),
}
"""What the listener reads from the system when it is asked."""

COUNTED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "login.finished": ("logins", ("tenant", "connection", "=finished")),
    "login.refused": ("logins", ("tenant", "connection", "code")),
    "connection.failed": ("logins", ("tenant", "connection", "code")),
    "attempts.throttled": ("throttled", ("tenant",)),
    "service.busy": ("busy", ("tenant",)),
    "request.failed": ("failures", ("code",)),
    "internal": ("failures", ("=internal",)),
    "reset.asked": ("resets", ("tenant", "connection", "=asked")),
    "reset.elsewhere": ("resets", ("tenant", "connection", "=elsewhere")),
    "reset.sent": ("resets", ("tenant", "connection", "=sent")),
    "reset.opened": ("resets", ("tenant", "connection", "=opened")),
    "reset.done": ("resets", ("tenant", "connection", "=done")),
    "reset.refused": ("resets", ("tenant", "connection", "=refused")),
    "job.done": ("jobs", ("kind", "=done")),
    "job.retried": ("jobs", ("kind", "=retried")),
    "job.dead": ("jobs", ("kind", "=dead")),
    "store.unavailable": ("outages", ("store",)),
}
"""An event, the counter that goes up with it, and its labels: facts of the event, or a word after `=`."""


def exposed(name: str) -> str:
    """The name that Prometheus sees, without the endings of a histogram's parts."""
    kind = (METRICS.get(name) or PROCESSES[name]).kind
    return f"{PREFIX}{name}" + {"counter": "_total", "histogram": "_seconds"}.get(kind, "")
