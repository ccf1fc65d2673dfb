"""Takes out of a transcript what no reader needs and no two runs share, and compares two of them.

:func:`settle` makes docs/walkthrough.md of a transcript; tests/demo compares a new one by :func:`skeleton`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

INSTANT = re.compile(r"\b(\d{4}-\d\d-\d\d)([T ])(\d\d:\d\d)((?::\d\d)?)((?:\.\d+)?)Z")
GIT_DATE = re.compile(r"\w{3} \w{3} +\d+ (\d\d:\d\d):\d\d \d{4} \+0000")
HEX = re.compile(r"(?<!\d\.)(?<!\w)(?!0+\b)[0-9a-f]{7,64}\b")
"""Digests, commits and keys, long or short; not a decimal's digits, and not the digest of no image."""
FIRST = datetime(2026, 1, 5, 9, 0)  # noqa: DTZ001 - a wall clock's minutes, to count from


def settle(page: str, folder: Path) -> str:
    """``page`` with instants counted from one Monday morning, and invented hexadecimals, ports and process ids.

    The same digest has the same invention everywhere, short or long, so that the page can still be followed.
    """
    page = page.replace(str(folder), "~")
    page = re.sub(r"127\.0\.0\.1:\d+", _in_order("127.0.0.1:{}", 40001), page)
    page = re.sub(r"(?<=kill -STOP )\d+", _in_order("{}", 4242), page)
    invented: dict[str, str] = {}

    def invent(match: re.Match[str]) -> str:
        found = match[0]
        name = invented.setdefault(found[:7], hashlib.sha256(f"{len(invented)}".encode()).hexdigest())
        return name[: len(found)]

    return HEX.sub(invent, _from_monday(page))


def _in_order(form: str, first: int) -> Callable[[re.Match[str]], str]:
    """A replacement that numbers distinct matches in the order in which they come."""
    seen: dict[str, str] = {}
    return lambda match: seen.setdefault(match[0], form.format(first + len(seen)))


def _from_monday(page: str) -> str:
    """Every instant, moved by the same whole number of minutes, and without fractions of a second."""
    first = INSTANT.search(page)
    if first is None:
        return page
    shift = FIRST - datetime.fromisoformat(f"{first[1]} {first[3]}")

    def move(match: re.Match[str]) -> str:
        moved = datetime.fromisoformat(f"{match[1]} {match[3]}") + shift
        return f"{moved:%Y-%m-%d}{match[2]}{moved:%H:%M}{match[4]}Z"

    def move_git(match: re.Match[str]) -> str:
        moved = datetime.strptime(match[0], "%a %b %d %H:%M:%S %Y %z") + shift
        return f"{moved:%a %b %-d %H:%M:%S %Y} +0000"

    return GIT_DATE.sub(move_git, INSTANT.sub(move, page))


LEGEND = re.compile(r"^ *● value .*$", re.MULTILINE)
"""It names the signs that were drawn: an interval may be as narrow as the value."""
BAR = re.compile(r"[┈┃●┣━┫✱]{2,}")
CLOCKED = re.compile(
    r"\W*(load\.|speed\.|(load +|speed +)?(latency|errors|start-up|memory|leak|slower(-batch|-elapsed)?)\b)"
)
"""A line about what a clock or the machine says: a whole number of it is one too."""
INTEGER = re.compile(r"(?<![\w.])\d+(?![\w.])")


def bare(page: str) -> str:
    """``page`` without the numbers, instants and names that two runs do not share, and without alignment."""
    page = GIT_DATE.sub("DATE", INSTANT.sub("INSTANT", page))
    page = re.sub(r"(?<=127\.0\.0\.1:)\d+|(?<=kill -STOP )\d+|[+-]?\b\d+\.\d+(?:e[+-]\d+)?\b", "NUMBER", page)
    page = LEGEND.sub("LEGEND", page)
    page = BAR.sub("BAR", page)
    lines = HEX.sub("HEX", page).splitlines()
    lines = [INTEGER.sub("NUMBER", line) if CLOCKED.match(line) else line for line in lines]
    return "\n".join(re.sub(r"-{2,}", "-", re.sub(r" +", " ", line)).strip() for line in lines)


def skeleton(page: str) -> list[tuple[str, list[str]]]:
    """What two runs of the story must share: each command with what it printed, bare.

    How often a training says how far it is depends on the machine. Of `reconcile --watch`: which actions were
    carried out, in any order, because it depends on the machine which tick sees a measurement first.
    """
    blocks: list[tuple[str, list[str]]] = [("", [])]
    for line in bare(page).splitlines():
        if line.startswith("$ "):
            blocks.append((line, []))
        elif line not in ("", "```", "```console") and not line.startswith("progress: "):
            blocks[-1][1].append(line)
    return [
        (command, sorted({line for line in lines if re.match(r"[+~-] .* done( #\d+)?$", line)}))
        if command.startswith("$ reconcile -watch")
        else (command, lines)
        for command, lines in blocks
    ]
