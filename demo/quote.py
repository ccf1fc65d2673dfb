"""Renews what the README quotes of docs/walkthrough.md. The last step of `make walkthrough`.

A quote is a block of console lines; a line `...` in it marks a cut. It is found again by what two runs of the
story share, and written as the walkthrough has it now: tests/demo wants it to the letter.
"""

from __future__ import annotations

import re
from pathlib import Path

from settle import bare

ROOT = Path(__file__).parent.parent
README, WALKTHROUGH = ROOT / "README.md", ROOT / "docs" / "walkthrough.md"
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
CUT = "...\n"


def requoted(readme: str, page: str) -> str:
    """``readme`` with every quote as ``page`` has it. Raises ValueError where it does not go on so."""
    lines, at = page.splitlines(keepends=True), 0
    known = [bare(line) for line in lines]

    def renew(block: re.Match[str]) -> str:
        nonlocal at
        parts = []
        for part in re.split(rf"^{re.escape(CUT)}", block[0], flags=re.MULTILINE):
            wanted = [bare(line) for line in part.splitlines()]
            starts = range(at, len(lines) - len(wanted) + 1)
            start = next((i for i in starts if known[i : i + len(wanted)] == wanted), None)
            if start is None:
                raise ValueError(f"the walkthrough does not go on with:\n{part}")
            at = start + len(wanted)
            parts.append("".join(lines[start:at]))
        return CUT.join(parts)

    return BLOCK.sub(renew, readme)


if __name__ == "__main__":
    README.write_text(requoted(README.read_text(), WALKTHROUGH.read_text()))
