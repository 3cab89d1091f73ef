#!/usr/bin/env python3
"""Can somebody tell from *forgot* who has an account? Known and unknown identifiers, interleaved, each asked once.

    homerealm.py > homerealm.json &
    forgot_timing.py homerealm.json            prints whether the bytes are the same, and the AUC of the answer times

The AUC (Mann-Whitney) is the chance that an answer for a known user takes longer than one for an unknown user: 0.5 says
nothing can be learnt from it; 0.40 to 0.60 is what we promise at n = 400. Equal paths measure 0.48 to 0.56, one SQLite
insert more 0.83 to 0.97.

Bytes are compared after what must differ is blanked out: the identifier itself, long random values, references, dates.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import median
from urllib.parse import quote, urlencode, urljoin, urlsplit

from forms import forms
from homerealm import names

RANDOM = re.compile(r"[A-Za-z0-9_\-.%=]{20,}|\b[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{2}\b")
VOLATILE = {"date", "content-length"}


class Asker:
    """A new visitor for each question, on one kept connection, from an address of its own."""

    def __init__(self, issuer: str):
        parts = urlsplit(issuer)
        self.origin, self.issuer = f"{parts.scheme}://{parts.netloc}", issuer
        self.connection = http.client.HTTPConnection(parts.hostname or "localhost", parts.port or 80, timeout=30)
        self.count = 0

    def call(self, method: str, url: str, headers: dict[str, str], body: str | None = None):
        """One exchange: (status, headers, body, seconds)."""
        target = url.removeprefix(self.origin)
        start = time.perf_counter()
        self.connection.request(method, target, body=body, headers=headers)
        answer = self.connection.getresponse()
        content = answer.read().decode("utf-8", "replace")
        return answer.status, answer.getheaders(), content, time.perf_counter() - start

    def ask(self, identifier: str) -> tuple[str, float]:
        """What a visitor sees who types this identifier, with everything volatile blanked out; and the seconds of the answer."""
        self.count += 1
        headers = {"X-Forwarded-For": f"198.18.{self.count >> 8 & 255}.{self.count & 255}", "Accept": "text/html"}
        cookies: dict[str, str] = {}

        def go(method: str, url: str, body: str | None = None, extra: dict[str, str] | None = None):
            jar = {"Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())} if cookies else {}
            found = self.call(method, url, headers | jar | (extra or {}), body)
            for name, value in found[1]:
                if name.lower() == "set-cookie":
                    key, _, rest = value.partition("=")
                    cookies[key] = rest.partition(";")[0]
            return found

        url = self.issuer.rstrip("/") + "/forgot"
        status, got, page, _ = go("GET", url)
        for _ in range(5):
            place = next((value for name, value in got if name.lower() == "location"), None)
            if not place:
                break
            url = urljoin(url, place)
            status, got, page, _ = go("GET", url)
        form, field = next(((f, field) for f in forms(page.encode()) if (field := f.identifier())), (None, None))
        if status != 200 or form is None or field is None:
            sys.exit(f"no form for an identifier at {url}: {status}\n{page[:500]}")
        data = urlencode(form.data({field["name"]: identifier}))
        extra = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.origin, "Referer": url}
        status, got, page, seconds = go("POST", urljoin(url, form.action or url), data, extra)
        seen = [self.plain(identifier, status, got, page)]
        for _ in range(5):
            place = next((value for name, value in got if name.lower() == "location"), None)
            if not place:
                break
            status, got, page, more = go("GET", urljoin(url, place))
            seconds += more
            seen.append(self.plain(identifier, status, got, page))
        if status == 429:
            sys.exit("throttled: raise the limits or wait")
        return "\n".join(seen), seconds

    @staticmethod
    def plain(identifier: str, status: int, headers: list[tuple[str, str]], page: str) -> str:
        """An answer without what must differ."""
        lines = [f"{name.lower()}: {value}" for name, value in headers if name.lower() not in VOLATILE]
        text = f"{status}\n" + "\n".join(sorted(lines)) + "\n\n" + page
        for form in {identifier, quote(identifier), quote(identifier, safe="")}:
            text = text.replace(form, "IDENTIFIER")
        return RANDOM.sub("RANDOM", text)


def auc(known: list[float], unknown: list[float]) -> float:
    """Mann-Whitney: the share of pairs in which the known one took longer (ties count half)."""
    ranked = sorted([(value, 1) for value in known] + [(value, 0) for value in unknown])
    total, place = 0.0, 0
    while place < len(ranked):
        end = place
        while end < len(ranked) and ranked[end][0] == ranked[place][0]:
            end += 1
        total += sum(mark for _, mark in ranked[place:end]) * ((place + 1 + end) / 2)
        place = end
    return (total - len(known) * (len(known) + 1) / 2) / (len(known) * len(unknown))


def run(target: dict, count: int, domain: str) -> dict:
    """Ask about `count` known and `count` unknown people in random order."""
    users = names(1000)[: count + 20]
    unknown = [f"nobo{number:07}" for number in range(count + 20)]
    questions = [(f"{name}{domain}", True) for name in users] + [(f"{name}{domain}", False) for name in unknown]
    warm, questions = questions[:20] + questions[-20:], questions[20:-20]
    random.shuffle(questions)
    asker = Asker(target["issuer"])
    for name, _ in warm:
        asker.ask(name)
    times: dict[bool, list[float]] = {True: [], False: []}
    pages: dict[bool, Counter] = {True: Counter(), False: Counter()}
    for name, known in questions:
        page, seconds = asker.ask(name)
        times[known].append(seconds)
        pages[known][page] += 1
    same = set(pages[True]) == set(pages[False]) and len(pages[True]) == 1
    return {
        "asked": len(questions), "same_bytes": same, "variants": len(set(pages[True]) | set(pages[False])),
        "auc": round(auc(times[True], times[False]), 3),
        "known_ms": round(median(times[True]) * 1000, 3), "unknown_ms": round(median(times[False]) * 1000, 3),
        "pages": {"known": list(pages[True]), "unknown": list(pages[False])},
    }  # fmt: skip


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, help="what benchmarks/homerealm.py printed")
    parser.add_argument("-n", type=int, default=400, help="of each kind (400)")
    parser.add_argument("--domain", default="@example.org", help="what follows the name; empty: user names")
    parser.add_argument("--show", action="store_true", help="print the variants of the answer")
    options = parser.parse_args()
    found = run(json.loads(options.target.read_text()), options.n, options.domain)
    pages = found.pop("pages")
    print(json.dumps(found))
    if options.show or not found["same_bytes"]:
        for kind, texts in pages.items():
            for text in texts[:2]:
                print(f"--- {kind}\n{text[:3000]}")
    return 0 if found["same_bytes"] else 1


if __name__ == "__main__":
    sys.exit(main())
