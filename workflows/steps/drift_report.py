"""Evidently's report of recorded requests for people: the older half of the recording against the newer one.

The step `drift` calls :func:`report` where the model asks for it (``monitoring.report``). Evidently takes five
seconds to import and wants rows on both sides, so it runs in a process of its own, ``python -m
workflows.steps.drift_report``, on a sample of the recording alone: training rows are never loaded again, and
bins are no rows. Rows go to it through a pipe, because a recording is on no disk.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

ROWS = 10_000
"""Of both halves together; Evidently draws and tests on these."""
FEWEST = 100
SECONDS = 600.0


def report(older: Sequence[str], newer: Sequence[str]) -> bytes | str:
    """A page of HTML, or a sentence where there is none: no report is no reason to have no evidence.

    ``older`` and ``newer`` are lines of a recording, as a server gives them.
    """
    if min(len(older), len(newer)) < FEWEST:
        return f"no report: each half of the recording needs {FEWEST} rows"
    lines = "\n".join([json.dumps({"older": len(older)}), *older, *newer])
    command = [sys.executable, "-P", "-m", __name__]
    try:
        done = subprocess.run(
            command, input=lines.encode(), stdout=subprocess.PIPE, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"no report: Evidently took more than {SECONDS:.0f} seconds"
    if done.returncode or not done.stdout:
        return f"no report: Evidently ended with {done.returncode}; the log of the step says why"
    return done.stdout


def main() -> None:
    """The body of the process: a recording on stdin, the page on stdout."""
    head, *lines = sys.stdin.read().splitlines()
    older, found = json.loads(head)["older"], [json.loads(line)["row"] for line in lines]

    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    rows = pd.DataFrame(found)
    page = Report([DataDriftPreset()]).run(rows[older:], rows[:older]).get_html_str(as_iframe=False)
    sys.stdout.write(page)


if __name__ == "__main__":
    main()
