"""The events of the log, one JSON object a line. Names are stable: other programs search for them.

`docs/reference/events.md` is generated from this table; what is not in it is not said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Kind(NamedTuple):
    """One event: how loud it is, and what it means."""

    level: str
    """`info`: as it should be; `warning`: somebody may be hindered; `error`: an operator should look."""
    meaning: str


EVENTS: Mapping[str, Kind] = {
    "login.finished": Kind("info", "Somebody is signed in; an app got its code. One line a login."),
    "login.refused": Kind("info", "A step of a login was refused. `code` says why."),
    "connection.failed": Kind("warning", "A provider did not sign somebody in. `code` and `detail` say why."),
    "request.refused": Kind("info", "A page or an answer said no (4xx). Its `code` is in the list of error codes."),
    "requests.late": Kind("warning", "So many requests (`number`) had begun and did not arrive in time, or gave way to "
                          "others. At most one line in ten seconds from a process."),
    "request.failed": Kind("error", "Something of ours does not work (5xx): a store, a directory."),
    "internal": Kind("error", "A mistake in the program, with its traceback."),
    "attempts.throttled": Kind("info", "Somebody tried too often and was told to wait."),
    "attempts.challenged": Kind("info", "Passwords are tried in masses: a form came without a solved challenge."),
    "hashing.ended": Kind("error", "The hashing process died with `status`; it is started again, nobody was let in."),
    "service.busy": Kind("warning", "The queue of password hashes was full; somebody was told to come again."),
    "reset.asked": Kind("info", "A link for a forgotten password was asked for; a job is queued."),
    "reset.elsewhere": Kind("info", "Somebody was shown where their provider resets passwords."),
    "reset.sent": Kind("info", "The mail with a link, or with the way to a provider, was taken by a mail server."),
    "reset.opened": Kind("info", "A mailed link was opened and works."),
    "reset.done": Kind("info", "A new password was saved through a mailed link."),
    "reset.refused": Kind("info", "A link did not work: expired, used, replaced, not of ours."),
    "job.done": Kind("info", "The background worker finished a job."),
    "job.retried": Kind("warning", "A job failed and is tried again at `due`."),
    "job.dead": Kind("error", "A job was given up; it stays in the outbox for the operator."),
    "job.lost": Kind("warning", "A job's lease had ended before it was done (a frozen machine, a jump of the clock, a "
                     "database that was away): another worker has it. A mail may come twice, with one Message-ID."),
    "mail.held_back": Kind("info", "A mail was not let out: `mail.only_to` does not have its address."),
    "worker.failed": Kind("error", "The background worker could not do its round, and tries again."),
    "audit.sealed": Kind("info", "New rows of the audit log are in the chain. Keep `place` and `hash` elsewhere."),
    "config.reloaded": Kind("info", "Another configuration runs now."),
    "config.accepted": Kind("info", "The files are right again after a refusal."),
    "config.refused": Kind("error", "The changed files are wrong; `version` runs on, also in a process that starts."),
    "config.watched": Kind("info", "The configuration folder is watched for changes."),
    "config.watch_failed": Kind("error", "Watching the configuration failed; SIGHUP still reloads."),
    "turn.taken": Kind("info", "This background worker does from now on what only one of them does."),
    "turn.lost": Kind("warning", "It does not any more: another took over, or the key-value store does not answer."),
    "branding.logo": Kind("warning", "A logo cannot be used; the pages show the name instead."),
    "store.unavailable": Kind("error", "The database or the key-value store does not answer any more."),
    "store.back": Kind("info", "It answers again."),
    "process.ended": Kind("warning", "A process of ours ended by itself, see `how`; it is started again."),
    "process.unstarted": Kind("warning", "A process of ours could not be started, see `why` (nothing left of "
                              "what it takes: processes, memory, descriptors); tried again in `again_in` seconds."),
    "process.killed": Kind("warning", "A process that was asked to end did not, and was killed."),
    "processes.reload": Kind("info", "SIGHUP: every process reads the configuration again."),
    "clock.stepped": Kind("warning", "The clock of this machine jumped by so many `seconds`."),
    "jobs.put_right": Kind("info", "A `number` of jobs had a time from before the clock was set back; they are due."),
    "supervisor.lost": Kind("error", "Our supervisor was killed. This process ends in order; so do the others."),
    "events.dropped": Kind("warning", "So many events were lost: their reader was too slow, or the disk full."),
    "metrics.lost": Kind("error", "This process cannot keep its numbers, or not all, see `why` (a full disk); it works "
                         "without. The internal listener may not see that it is alive, until it is started anew."),
    "server.said": Kind("warning", "Something that a library or the web server had to say."),
}  # fmt: skip
