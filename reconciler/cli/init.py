"""`reconcile init`: write a GitOps repository, its bare `origin` and, with the example, the example's data.

What is written is this project's own repository: packed into the wheel under ``reconciler/example``, and in a
checkout read from its root.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

from reconciler.cli import console
from reconciler.core.digests import dvc_listing
from reconciler.core.documents import KINDS
from reconciler.core.errors import Terminal
from reconciler.core.validation import nearest
from reconciler.report.schema import schema_text

SHIPPED = ("environments", "policies", "workflows/rendered")
EXAMPLE = "models"
GENERATED = re.compile(
    r"(^|/)(__pycache__|releases|rendered/[^/]+|exceptions)/|/data/(?!.*\.(dvc|py)$|\.gitignore$)"
)
"""What a checkout may hold besides the example itself: releases of its own, compiled files, data."""

# `?*` and not `*`: DVC takes a folder `data/` for what `data/*` ignores, and then finds no pointer in it.
IGNORED = """\
# trueup's embedded registry, engine, forge and cluster
/.trueup/
# a model's data is in the DVC remote; Git has the pointers and the script that makes it
/models/*/data/?*
!/models/*/data/*.dvc
!/models/*/data/*.py
__pycache__/
"""

DVC_CONFIG = """\
[core]
    remote = local
    analytics = false
['remote "local"']
    url = {remote}
"""

DVC_IGNORED = "/config.local\n/tmp\n/cache\n"
"""What DVC itself would write, and leave for somebody to commit."""

README = """\
# {name}

Which version of which model runs where, and what it must prove before it may. `reconcile` makes it so.

| folder | what it says |
|---|---|
| `environments/platform.yaml` | which registry, engine, forge and cluster; by default the embedded ones |
| `environments/ENV/environment.yaml` | where ENV gets its candidates from, which policy they meet, who merges |
| `environments/ENV/releases/` | what ENV runs and why; written by `reconcile`, by pull request |
| `models/MODEL/` | how a model is trained and served, and where it may go |
| `policies/` | what a version must prove |
| `workflows/rendered/` | the training and measuring workflows |
| `docs/schemas/` | JSON Schemas that the documents' first lines name, for editors |

```
reconcile --dry-run     # what would be done, and why; writes nothing
reconcile               # do it, once; --watch goes on doing it
reconcile status        # the matrix of models and environments
```

The pull requests are in the bare repository beside this one: `reconcile pr list`.
"""


def init(directory: Path, example: str = "", say: Callable[[str], None] = print) -> None:
    """Write a GitOps repository to ``directory``, which must be empty or absent, and ``say`` what was done.

    ``DIRECTORY.git`` becomes its bare ``origin``. The model that ``example`` names comes with it, and its data
    goes to the DVC remote below ``.trueup``. Raises Terminal; what was begun is then removed again.
    """
    target = directory.absolute()
    origin = target.with_name(f"{target.name}.git")
    for place in (target, origin):
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise Terminal(
                "is there already, and init writes only where nothing is",
                where=str(place),
                hint="name another folder, or add environments/ and policies/ to this one by hand",
            )
    _require_identity(target.parent)
    root = shipped_root()
    known = sorted(path.parent.name for path in root.glob(f"{EXAMPLE}/*/model.yaml"))
    if example and example not in known:
        raise Terminal(f"there is no example {example}", hint=nearest(example, known))
    existed = [place for place in (target, origin) if place.exists()]
    try:
        _write(root, target, example, say)
        if example:
            _make_data(target, say)
        _commit_and_push(target, origin, say)
    except BaseException:
        for place in (target, origin):
            shutil.rmtree(place, ignore_errors=True)
        for place in existed:
            place.mkdir(parents=True)
        raise
    say(f"\nnext: cd {directory} && reconcile {'--dry-run' if example else 'new-model --help'}")


def shipped_root() -> Path:
    """Where the files that init copies are: in the installed wheel, or at the root of a checkout."""
    package = Path(str(files("reconciler")))
    for root in (package / "example", package.parent):
        if all((root / part).is_dir() for part in SHIPPED):
            return root
    raise Terminal(
        "this installation of trueup carries no example files",
        where=str(package),
        hint="install the wheel, or run from a complete checkout",
    )


def _require_identity(near: Path) -> None:
    """The first commit is a person's. Checked before anything is written."""
    near = next(parent for parent in (near, *near.parents) if parent.is_dir())
    for key in ("user.name", "user.email"):
        found = subprocess.run(["git", "config", key], cwd=near, capture_output=True, text=True, check=False)
        if not found.stdout.strip():
            raise Terminal(
                f"Git does not know whose commit this would be: {key} is not set",
                hint=f"git config --global {key} YOURS",
            )


def _write(root: Path, target: Path, example: str, say: Callable[[str], None]) -> None:
    parts = {part: part for part in SHIPPED} | ({EXAMPLE: f"{EXAMPLE}/{example}"} if example else {})
    for part, folder in parts.items():
        copied = 0
        for relative in _files(root, folder):
            destination = target / relative
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / relative, destination)
            copied += 1
        say(f"wrote {part}/ ({copied} files)")
    texts = {
        ".gitignore": IGNORED,
        ".dvc/.gitignore": DVC_IGNORED,
        ".dvc/config": DVC_CONFIG.format(remote=target / ".trueup" / "data-remote"),
        "README.md": README.format(name=target.name),
    }
    texts |= {f"docs/schemas/{kind}.json": schema_text(kind) for kind in KINDS}
    for name, text in texts.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text)
    say(f"wrote {', '.join(dict.fromkeys(name.partition('/')[0] for name in texts))}")


def _files(root: Path, part: str) -> Iterator[str]:
    for path in sorted((root / part).rglob("*")):
        relative = path.relative_to(root).as_posix()
        if path.is_file() and not GENERATED.search(relative):
            yield relative


def _make_data(target: Path, say: Callable[[str], None]) -> None:
    """Run the example's ``data/prepare.py`` and put what its pointers name into the DVC remote."""
    for script in sorted(target.glob(f"{EXAMPLE}/*/data/prepare.py")):
        name = script.relative_to(target).as_posix()
        say(f"running {name} ...")
        with console.working("making the example's data"):
            made = subprocess.run(
                [sys.executable, str(script)],
                cwd=target,
                capture_output=True,
                text=True,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        if made.returncode:
            last = (made.stderr.strip().splitlines() or [f"exit code {made.returncode}"])[-1]
            raise Terminal(
                f"could not make the example's data: {last}",
                where=name,
                hint="it needs the libraries of its steps: pip install 'trueup[steps,server,example]'",
            )
        for pointer in console.counted("storing the example's data", sorted(script.parent.glob("*.dvc"))):
            _store(pointer, target)
    say("wrote .trueup/data-remote (the DVC remote)")


def _store(pointer: Path, target: Path) -> None:
    """Copy what one pointer names to where DVC 3 keeps it: ``files/md5/AB/...``, a folder with its listing."""
    where = pointer.relative_to(target).as_posix()
    text = pointer.read_text()
    md5, path = (re.search(rf"^\s*(?:- )?{field}: (\S+)\s*$", text, re.MULTILINE) for field in ("md5", "path"))
    if md5 is None or path is None:
        raise Terminal("is not the pointer of a file or folder", where=where)
    made = pointer.parent / path[1]
    suffix = ".dir" if made.is_dir() else ""
    below = [file for file in made.rglob("*") if file.is_file()] if suffix else []
    hashes = {file.relative_to(made).as_posix(): _md5(file.read_bytes()) for file in below}
    content = dvc_listing(hashes) if suffix else made.read_bytes()
    if (actual := _md5(content) + suffix) != md5[1]:
        raise Terminal(
            f"{path[1]} has md5 {actual}, and the pointer says {md5[1]}",
            where=where,
            hint="install the versions of requirements.lock; other ones may write other bytes",
        )
    remote = target / ".trueup" / "data-remote" / "files" / "md5"
    for name, stored in {actual: content, **{hashes[p]: (made / p).read_bytes() for p in hashes}}.items():
        (remote / name[:2]).mkdir(parents=True, exist_ok=True)
        (remote / name[:2] / name[2:]).write_bytes(stored)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _commit_and_push(target: Path, origin: Path, say: Callable[[str], None]) -> None:
    def git(*arguments: str, at: Path = target) -> None:
        done = subprocess.run(["git", *arguments], cwd=at, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Terminal(f"git {arguments[0]} failed: {done.stderr.strip()}", where=str(at))

    origin.mkdir(parents=True, exist_ok=True)
    git("init", "--quiet", "--bare", "--initial-branch=main", at=origin)
    git("init", "--quiet", "--initial-branch=main")
    git("add", "--all")
    git("commit", "--quiet", "--message", "A GitOps repository for models, written by `reconcile init`")
    git("remote", "add", "origin", str(origin))
    git("push", "--quiet", "--set-upstream", "origin", "main")
    say(f"committed on main and pushed to {origin}")
