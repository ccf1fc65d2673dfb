"""Writes the pictures of docs/web.md: `reconcile web` over the repository that a told story has left.

    python demo/pages.py MODEL FOLDER [--repository REPOSITORY]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright
from story import environment_of

HERE = Path(__file__).parent
WIDTH, HEIGHT = 1100, 900
"""CSS pixels; a page that is longer is shown in full."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--repository", type=Path, default=HERE.parent / ".demo" / "scratch" / "models")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("pictures need Chromium\nhint: apt-get install chromium", file=sys.stderr)
        return 1
    arguments.folder.mkdir(parents=True, exist_ok=True)
    repository: Path = arguments.repository.absolute()
    served = subprocess.Popen(
        ["reconcile", "web", "--port", "0"],
        cwd=repository,
        env=environment_of(repository.parent),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert served.stdout is not None
        address = served.stdout.readline().strip()
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            for name, path in (("web-overview", ""), ("web-model", f"models/{arguments.model}")):
                page.goto(f"{address}{path}")
                page.screenshot(path=arguments.folder / f"{name}.png", full_page=True)
            browser.close()
    finally:
        served.terminate()
        served.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
