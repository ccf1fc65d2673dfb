"""Writes the pictures of docs/web.md: `reconcile web` over the repository that a told story has left.

python demo/pages.py MODEL METRIC FOLDER [--repository REPOSITORY]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright
from story import environment_of

HERE = Path(__file__).parent
WIDTH, HEIGHT = 1100, 760
"""CSS pixels: as much of the overview as a reader needs."""
TICKS = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("metric", help="whose chart is shown")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--repository", type=Path, default=HERE.parent / ".demo" / "scratch" / "models")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("pictures need Chromium\nhint: apt-get install chromium", file=sys.stderr)
        return 1
    arguments.folder.mkdir(parents=True, exist_ok=True)
    repository: Path = arguments.repository.absolute()
    env = environment_of(repository.parent)
    for _ in range(TICKS):  # a story stops its servers at its end
        ticked = subprocess.run(
            ["reconcile"], cwd=repository, env=env, capture_output=True, text=True, check=True
        )
        if ticked.stdout.startswith("No changes."):
            break
        time.sleep(1)
    served = subprocess.Popen(
        ["reconcile", "web", "--port", "0"], cwd=repository, env=env, stdout=subprocess.PIPE, text=True
    )
    try:
        assert served.stdout is not None
        address = served.stdout.readline().strip()
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.goto(address)
            page.screenshot(path=arguments.folder / "web-overview.png")
            page.goto(f"{address}models/{arguments.model}")
            page.locator("#production").screenshot(path=arguments.folder / "web-gates.png")
            page.locator("figure", has_text=arguments.metric).screenshot(
                path=arguments.folder / "web-chart.png"
            )
            browser.close()
    finally:
        served.terminate()
        served.wait()
        subprocess.run(["reconcile", "local", "stop"], cwd=repository, env=env, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
