"""A GitHub-shaped server for tests: npm's `emulate`, installed once into a cache, and held to loopback.

tests/contract/test_forge_emulated.py calls it. It needs node 20 and npm. The version is in github/package.json.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.programs import alone, answers, cached, free_port, make, started

HERE = Path(__file__).parent / "github"


def build() -> Path:
    """The folder with its node_modules. Seconds the first time."""
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]["emulate"]
    folder = cached(f"emulate-{wanted}")
    with alone(folder):
        if not (folder / "installed").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copyfile(HERE / name, folder / name)
            command = ["npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]
            needs = "node 20 and npm are needed for the GitHub emulator: https://nodejs.org"
            make(command, needs=needs, cwd=folder)
            (folder / "installed").touch()
    return folder


@contextmanager
def running(folder: Path, seed: Mapping[str, Any]) -> Iterator[str]:
    """Its address while it runs. ``seed`` are its tokens, accounts, repositories and Apps."""
    program, port = build() / "node_modules/emulate/dist/index.js", free_port()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "seed.json").write_text(json.dumps(seed))
    command = ["node", "--import", str(HERE / "loopback.mjs"), str(program), "start", "--service", "github"]
    command += ["--port", str(port), "--seed", str(folder / "seed.json")]
    url = f"http://127.0.0.1:{port}"
    with started(command, folder / "log", lambda: answers(f"{url}/meta")):
        yield url
