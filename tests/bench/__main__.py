"""``make bench``: measures, and writes what it measured into docs/benchmarks.md, each bench into its section.

A bench is a module here with ``TITLE``, ``METHOD`` and ``measure()``, which gives a table as Markdown. They are
run by hand, on a quiet machine; no test measures time.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from tests.bench import data, drift, gates

BENCHES: dict[str, ModuleType] = {"data": data, "drift": drift, "gates": gates}
LONG = {"gates"}
"""Half an hour or more: run where they are named."""
PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def section(name: str, table: str) -> str:
    """What stands between the markers of a bench."""
    bench = BENCHES[name]
    return f"## {bench.TITLE}\n\n{bench.METHOD}\n\nMeasured on {machine()}.\n\n{table}\n"


def put(page: str, name: str, text: str) -> str:
    """The page with this bench's section renewed; one that is new comes last."""
    begin, end = f"<!-- bench {name} -->\n", f"<!-- end of bench {name} -->\n"
    before, found, rest = page.partition(begin)
    after = rest.partition(end)[2] if found else ""
    gap = "" if found else "\n"
    return f"{before}{gap}{begin}{text}{end}{after}"


def machine() -> str:
    """``8 cores of Example CPU, 16 GB, Linux 6.12, Python 3.12.1, DVC 3.67.1``."""
    cpu = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    kernel = platform.release().partition("-")[0]
    first = (
        "" if os.sched_getscheduler(0) == os.SCHED_OTHER else ", before other processes (real-time priority)"
    )
    return (
        f"{os.cpu_count()} cores of {cpu[1] if cpu else platform.machine()}, {memory:.0f} GB, "
        f"Linux {kernel}, Python {platform.python_version()}, DVC {version('dvc')}{first}"
    )


def main(names: list[str]) -> int:
    if unknown := set(names) - set(BENCHES):
        print(
            f"there is no bench {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}", file=sys.stderr
        )
        return 2
    for name in names or sorted(BENCHES.keys() - LONG):
        text = section(name, BENCHES[name].measure())
        print(text)
        PAGE.write_text(put(PAGE.read_text(), name, text))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
