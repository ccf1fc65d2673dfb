"""``python -m workflows.templates --write`` renders every stock template into ``workflows/rendered``;
``--check`` only says which file differs, and then exits with 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from workflows.templates.stock import STOCK

RENDERED = Path(__file__).parent.parent / "rendered"
HEADER = "# Rendered by `python -m workflows.templates --write` from workflows/templates. Do not edit.\n"


def render() -> dict[str, str]:
    """File name -> YAML of every stock template."""
    templates = [make() for make in STOCK]
    return {f"{template.name}.yaml": HEADER + template.to_yaml() for template in templates}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m workflows.templates", description=__doc__)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", action="store_true", help="write workflows/rendered")
    mode.add_argument("--check", action="store_true", help="exit with 1 if workflows/rendered is out of date")
    write = parser.parse_args(arguments).write

    wanted = render()
    present = {path.name: path.read_text() for path in RENDERED.glob("*.yaml")}
    stale = sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))
    for name in stale if write else []:
        if name in wanted:
            RENDERED.mkdir(exist_ok=True)
            (RENDERED / name).write_text(wanted[name])
        else:
            (RENDERED / name).unlink()
    for name in stale:
        sys.stderr.write(f"workflows/rendered/{name}: {'written' if write else 'differs from its template'}\n")
    if stale and not write:
        sys.stderr.write("hint: run `python -m workflows.templates --write`\n")
    return 1 if stale and not write else 0


if __name__ == "__main__":
    sys.exit(main())
