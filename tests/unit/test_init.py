"""`reconcile init`: what it writes, what it refuses, and that a failure leaves nothing behind."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.cli import init as command
from reconciler.cli.init import init
from reconciler.core.documents import KINDS
from reconciler.core.errors import Terminal

PREPARE = """
from pathlib import Path
(Path(__file__).parent / "rows.csv").write_text("a,b\\n1,2\\n")
"""
LISTED = "8061fc0abc215e5ae132e51d1904cc66.dir"
ROWS = hashlib.md5(b"a,b\n1,2\n", usedforsecurity=False).hexdigest()


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small stand-in for the files that the wheel packs."""
    root = tmp_path / "shipped"
    texts = {
        "environments/platform.yaml": "kind: Platform\n",
        "environments/staging/environment.yaml": "kind: Environment\n",
        "environments/staging/releases/tiny.yaml": "kind: Release\n",
        "environments/staging/rendered/tiny/deployment.yaml": "kind: Deployment\n",
        "policies/staging.yaml": "kind: GatePolicy\n",
        "workflows/rendered/train-v1.yaml": "kind: WorkflowTemplate\n",
        "models/tiny/model.yaml": "kind: Model\n",
        "models/tiny/src/train.py": "",
        "models/tiny/data/prepare.py": PREPARE,
        "models/tiny/data/rows.csv.dvc": f"outs:\n- md5: {ROWS}\n  size: 8\n  path: rows.csv\n",
        "models/tiny/data/left-over.csv": "",
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr(command, "shipped_root", lambda: root)
    return root


@pytest.fixture(autouse=True)
def someone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A person, whatever this machine's Git is configured for."""
    config = tmp_path / "gitconfig"
    config.write_text("[user]\n\tname = Someone\n\temail = someone@example.org\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")


def git(at: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=at, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_example_is_committed_pushed_and_has_its_data(shipped: Path, tmp_path: Path) -> None:
    said: list[str] = []
    target = tmp_path / "models-repo"
    init(target, example="tiny", say=said.append)

    tracked = set(git(target, "ls-files").splitlines())
    assert tracked - {f"docs/schemas/{kind}.json" for kind in KINDS} == {
        ".dvc/.gitignore",
        ".dvc/config",
        ".gitignore",
        "README.md",
        "environments/platform.yaml",
        "environments/staging/environment.yaml",
        "models/tiny/data/prepare.py",
        "models/tiny/data/rows.csv.dvc",
        "models/tiny/model.yaml",
        "models/tiny/src/train.py",
        "policies/staging.yaml",
        "workflows/rendered/train-v1.yaml",
    }
    assert git(target, "status", "--porcelain") == ""
    assert git(target, "log", "-1", "--format=%an <%ae>") == "Someone <someone@example.org>"
    origin = tmp_path / "models-repo.git"
    assert git(origin, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert git(origin, "rev-parse", "main") == git(target, "rev-parse", "HEAD")
    remote = target / ".trueup" / "data-remote"
    assert f"url = {remote}" in (target / ".dvc/config").read_text()
    assert (remote / "files/md5" / ROWS[:2] / ROWS[2:]).read_text() == "a,b\n1,2\n"
    assert said[-1].strip() == f"next: cd {target} && reconcile --dry-run"


def test_dvc_finds_the_pointers_and_pushes_new_data(shipped: Path, tmp_path: Path) -> None:
    target = tmp_path / "new"
    init(target, example="tiny", say=lambda _: None)
    content = b"a,b\n3,4\n"
    (target / "models/tiny/data/rows.csv").write_bytes(content)
    for words in (["add", "models/tiny/data/rows.csv"], ["push"]):
        dvc = [sys.executable, "-m", "dvc", *words, "--quiet"]
        subprocess.run(
            dvc, cwd=target, check=True, capture_output=True, env={**os.environ, "DVC_NO_ANALYTICS": "1"}
        )
    assert git(target, "status", "--porcelain").split() == ["M", "models/tiny/data/rows.csv.dvc"]
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    pushed = target / ".trueup/data-remote/files/md5" / digest[:2] / digest[2:]
    assert pushed.read_bytes() == content


def test_of_several_examples_one_is_written(shipped: Path, tmp_path: Path) -> None:
    other = shipped / "models/large/model.yaml"
    other.parent.mkdir()
    other.write_text("kind: Model\n")
    init(tmp_path / "new", example="tiny", say=lambda _: None)
    assert [path.name for path in (tmp_path / "new/models").iterdir()] == ["tiny"]
    with pytest.raises(Terminal, match="there is no example tinny") as refusal:
        init(tmp_path / "other", example="tinny")
    assert refusal.value.hint == "did you mean tiny?"
    assert not (tmp_path / "other").exists()


def test_without_the_example_there_is_no_model(shipped: Path, tmp_path: Path) -> None:
    init(tmp_path / "bare-bones", say=lambda _: None)
    assert not (tmp_path / "bare-bones/models").exists()
    assert (tmp_path / "bare-bones/policies/staging.yaml").exists()


@pytest.mark.parametrize("taken", ["mine/file", "mine.git/file"])
def test_a_folder_with_something_in_it_is_left_alone(shipped: Path, tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).parent.mkdir()
    (tmp_path / taken).write_text("mine")
    with pytest.raises(Terminal, match="is there already") as refusal:
        init(tmp_path / "mine")
    assert refusal.value.hint
    assert (tmp_path / taken).read_text() == "mine"


def test_a_folder_of_data_is_stored_with_its_listing(shipped: Path, tmp_path: Path) -> None:
    data = shipped / "models/tiny/data"
    (data / "prepare.py").write_text(
        "from pathlib import Path\n"
        'rows = Path(__file__).parent / "rows"\n'
        "rows.mkdir()\n"
        '(rows / "q2.csv").write_text("a,b\\n3,4\\n")\n'
        '(rows / "q1.csv").write_text("a,b\\n1,2\\n")\n'
    )
    # As `dvc add rows` of DVC 3.67 wrote it, for these two files.
    (data / "rows.csv.dvc").write_text(f"outs:\n- md5: {LISTED}\n  size: 16\n  nfiles: 2\n  path: rows\n")
    init(tmp_path / "new", example="tiny", say=lambda _: None)
    remote = tmp_path / "new/.trueup/data-remote/files/md5"
    listing = json.loads((remote / LISTED[:2] / LISTED[2:]).read_text())
    assert [entry["relpath"] for entry in listing] == ["q1.csv", "q2.csv"]
    contents = [(remote / entry["md5"][:2] / entry["md5"][2:]).read_text() for entry in listing]
    assert contents == ["a,b\n1,2\n", "a,b\n3,4\n"]


def test_nobody_to_commit_as(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    with pytest.raises(Terminal, match=r"user\.name is not set") as refusal:
        init(tmp_path / "new")
    assert "git config --global user.name" in refusal.value.hint
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("prepare", "what"),
    [
        ("raise SystemExit('no such library')", "could not make the example's data: no such library"),
        (PREPARE.replace("1,2", "3,4"), "and the pointer says"),
    ],
)
def test_a_failure_leaves_nothing_behind(shipped: Path, tmp_path: Path, prepare: str, what: str) -> None:
    (shipped / "models/tiny/data/prepare.py").write_text(prepare)
    with pytest.raises(Terminal, match=what):
        init(tmp_path / "new", example="tiny", say=lambda _: None)
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "new.git").exists()
