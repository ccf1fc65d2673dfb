"""docs/tutorial.md is what happens: a newcomer's path is gone again from nothing, command by command."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"


@pytest.mark.long
@pytest.mark.skipif(shutil.which("curl") is None, reason="the newcomer asks the server by curl")
def test_the_path_is_still_the_one_that_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "demo"))
    from settle import skeleton  # type: ignore[import-not-found]

    told = subprocess.run(
        [
            sys.executable,
            str(ROOT / "demo/tutorial.py"),
            f"--folder={tmp_path / 'scratch'}",
            f"--transcript={tmp_path / 'page.md'}",
        ],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert told.returncode == 0, told.stdout[-4000:] + told.stderr
    new, written = skeleton((tmp_path / "page.md").read_text()), skeleton(TUTORIAL.read_text())
    assert [command for command, _ in new] == [command for command, _ in written]
    for said, wrote in zip(new, written, strict=True):
        assert said == wrote, "run `make tutorial` and read what changed"
