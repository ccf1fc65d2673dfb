"""`reconcile new-model`: valid at once, there as a whole or not at all. DVC is a fake in most tests."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
from pathlib import Path

import pytest

from reconciler.cli import new_model as command
from reconciler.cli import starter
from reconciler.cli.init import init
from reconciler.cli.main import run
from reconciler.core.errors import Terminal


@pytest.fixture(autouse=True)
def someone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "gitconfig"
    config.write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """What `reconcile init` writes, without the example."""
    init(tmp_path / "models-repo", say=lambda _: None)
    return tmp_path / "models-repo"


@pytest.fixture
def dvc(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What DVC was asked to do."""
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(command, "_dvc", lambda root, *arguments: asked.append(arguments))
    return asked


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """3,000 customers: an id, a gap in every seventh `spend`, a target that follows from `calls`."""
    chance = random.Random(0)
    lines = ["customer,plan,calls,spend,churned"]
    for i in range(3000):
        calls, spend = chance.randrange(9), "" if i % 7 == 0 else f"{chance.gauss(40, 9):.2f}"
        lines.append(f"c{i},{chance.choice(['basic', 'plus'])},{calls},{spend},{'yes' if calls > 4 else 'no'}")
    path = tmp_path / "customers.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def new_model(repository: Path, *arguments: str | Path) -> int:
    return run(["-C", str(repository), "new-model", *map(str, arguments)])


def changed(repository: Path) -> list[str]:
    listed = ["git", "status", "--porcelain", "--untracked-files=all"]
    done = subprocess.run(listed, cwd=repository, capture_output=True, text=True, check=True)
    return [line[3:] for line in done.stdout.splitlines()]


FILES = [
    "models/churn/data/evaluation.csv.dvc",
    "models/churn/data/train.csv.dvc",
    "models/churn/model.yaml",
    *(f"models/churn/src/{name}.py" for name in ("answer", "columns", "network", "predictor", "train")),
    "models/churn/src/requirements.txt",
    "models/churn/tests/columns.json",
    "models/churn/tests/test_churn.py",
    "models/churn/tests/test_churn_data.py",
]


def test_a_model_of_own_rows_is_complete_and_valid(
    repository: Path, rows: Path, dvc: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert new_model(repository, "churn", "--data", rows, "--target", "churned") == 0
    said = capsys.readouterr().out
    assert changed(repository) == sorted(FILES)
    assert list((repository / ".trueup").iterdir()) == []
    assert run(["-C", str(repository), "validate"]) == 0
    assert capsys.readouterr().out.startswith("Valid. 2 environments, 1 model, ")

    folder = repository / "models/churn"
    for name in ("train", "evaluation"):
        content = (folder / f"data/{name}.csv").read_bytes()
        assert hashlib.md5(content).hexdigest() in (folder / f"data/{name}.csv.dvc").read_text()
    data = [f"models/churn/data/{name}.csv" for name in ("train", "evaluation")]
    assert dvc == [("add", "--quiet", *data), ("push", "--quiet", *(f"{path}.dvc" for path in data))]
    contract = json.loads((folder / "tests/columns.json").read_text())
    assert contract["spend"] == {"kind": "number", "missing": True}
    document = (folder / "model.yaml").read_text()
    assert 'owner: "Ada"' in document
    assert "environments: [staging, production]" in document
    assert "{{" not in document
    assert "{%" not in document
    assert '      "spend": {type: number, nulls: 0.3' in document
    assert '      "churned": {type: text, values: ["no", "yes"]}\n' in document
    assert "shared:" not in document

    assert said.startswith("wrote models/churn: model.yaml, src, tests, and data: ")
    assert "task: binary-classification, by the values of churned\n" in said
    assert "column customer has a text of its own in most rows" in said
    assert "will block" not in said
    assert "  pytest models/churn\n  git switch --create churn && git add models/churn" in said


def test_the_same_rows_make_the_same_model(
    repository: Path, rows: Path, dvc: list[tuple[str, ...]], tmp_path: Path
) -> None:
    assert new_model(repository, "churn", "--data", rows, "--target", "churned") == 0
    (repository / "models/churn").rename(tmp_path / "first")
    assert new_model(repository, "churn", "--data", rows, "--target", "churned") == 0
    for path in (tmp_path / "first").rglob("*.*"):
        again = repository / "models/churn" / path.relative_to(tmp_path / "first")
        assert again.read_bytes() == path.read_bytes()


def test_a_regression_on_rows_that_are_held_out_by_a_person(
    repository: Path, rows: Path, dvc: list[tuple[str, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [line for line in rows.read_text().splitlines(keepends=True) if ",," not in line]
    rows.write_text("".join(kept))
    (tmp_path / "held.csv").write_text("".join([kept[0], *kept[1:60]]))
    asked = ("--data", rows, "--target", "spend", "--evaluation", tmp_path / "held.csv", "--owner", 'a "b": {}')
    assert new_model(repository, "churn", *asked) == 0
    said = capsys.readouterr().out
    assert "task: regression, by the values of spend" in said
    assert "59 of the rows to measure on are among those to learn from" in said
    blocked = "r2, parity, not-worse-r2, slower, slower-batch, slower-elapsed"
    assert f"staging will block it: {blocked} needs 500 rows, and there are 59" in said
    document = (repository / "models/churn/model.yaml").read_text()
    assert 'owner: "a \\"b\\": {}"' in document
    assert "task: regression\n" in document
    assert "\n  mae: " in document
    assert run(["-C", str(repository), "validate"]) == 0


def test_without_data_it_is_valid_and_goes_nowhere_until_there_is_some(
    repository: Path, dvc: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert new_model(repository, "churn", "--task", "regression") == 0
    assert "dvc add models/churn/data/train.csv models/churn/data/evaluation.csv" in capsys.readouterr().out
    assert dvc == []
    assert changed(repository) == [
        path for path in sorted(FILES) if "_data" not in path and ".json" not in path
    ]
    assert run(["-C", str(repository), "validate"]) == 0
    out = capsys.readouterr().out
    hint = "hint: put rows into models/churn/data/train.csv, and: dvc add models/churn/data/train.csv"
    assert "models/churn/data/train.csv.dvc: warning: has no data yet\n" in out
    assert hint in out
    document = repository / "models/churn/model.yaml"
    document.write_text(document.read_text().replace("environments: []", "environments: [staging]"))
    assert run(["-C", str(repository), "validate"]) == 1
    assert "train.csv.dvc: error: has no data yet, and its model names environments" in capsys.readouterr().out


def test_what_is_there_is_left_as_it_is(
    repository: Path, rows: Path, dvc: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "models/churn").mkdir(parents=True)
    assert new_model(repository, "churn", "--data", rows, "--target", "churned") == 1
    assert "models/churn: is there already" in capsys.readouterr().err
    assert list((repository / "models/churn").iterdir()) == []


def test_a_registered_name_of_another_model_is_not_taken(
    repository: Path, dvc: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert new_model(repository, "churn") == 0
    document = repository / "models/churn/model.yaml"
    document.write_text(document.read_text().replace("registeredName: churn", "registeredName: leavers"))
    assert new_model(repository, "leavers") == 1
    assert "models/churn has registered versions under this name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Churn"], "hint: reconcile new-model churn\n"),
        (["churn_2"], "hint: reconcile new-model churn-2\n"),
        (["../churn"], "hint: reconcile new-model churn\n"),
        (["x" * 31], f"hint: reconcile new-model {'x' * 30}\n"),
        (["--", "--"], "hint: use lower-case letters"),
        (["churn", "--target", "churned"], "--target and --evaluation say something about --data FILE.csv"),
        (["churn", "--data", "customers.csv"], "--data needs --target COLUMN"),
        (["churn", "--data", "customers.csv", "--target", "left"], "has no column 'left' to predict"),
        (
            ["churn", "--data", "customers.csv", "--target", "churned", "--evaluation-share", "1"],
            "a share is more than 0 and less than 1",
        ),
        (
            ["churn", "--data", "customers.csv", "--target", "churned", "--evaluation-share", "0.00001"],
            "of 3000 rows 0 would be in evaluation.csv, which is too few",
        ),
    ],
)
def test_a_slip_is_told_and_nothing_is_written(
    repository: Path,
    rows: Path,
    dvc: list[tuple[str, ...]],
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(rows.parent)
    assert new_model(repository, *arguments) == 1
    assert said in capsys.readouterr().err
    assert changed(repository) == []
    assert not (repository / "models").exists()


def test_killed_before_it_is_whole_nothing_is_there(
    repository: Path, rows: Path, dvc: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(starter, "move", killed)
    assert new_model(repository, "churn", "--data", rows, "--target", "churned") == 130
    assert not (repository / "models").exists()
    assert list((repository / ".trueup").iterdir()) == []
    assert dvc == []


def test_a_store_that_fails_leaves_a_whole_model_and_the_command_to_repeat(
    repository: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = repository / ".dvc/config"
    config.write_text(config.read_text().replace("[core]", "[core]\n    unknown = 1"))
    assert new_model(repository, "churn", "--data", rows, "--target", "churned") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: dvc add: the model is written, and its rows are not stored: ")
    assert "hint: when that is mended: dvc add --quiet models/churn/data/train.csv" in said
    assert set(changed(repository)) == {*FILES, ".dvc/config"}


def test_without_a_remote_the_rows_stay_here_and_that_is_said(
    repository: Path, rows: Path, dvc: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / ".dvc/config").write_text("[core]\n    analytics = false\n")
    assert new_model(repository, "churn", "--data", rows, "--target", "churned") == 0
    assert [arguments[0] for arguments in dvc] == ["add"]
    assert "dvc remote add --default NAME URL && dvc push models/churn/data/train" in capsys.readouterr().out


def test_without_dvc_nothing_is_begun(
    repository: Path, rows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    assert new_model(repository, "churn", "--data", rows, "--target", "churned") == 1
    assert "pip install 'trueup[steps]'" in capsys.readouterr().err
    monkeypatch.undo()
    (repository / ".dvc/config").unlink()
    (repository / ".dvc/.gitignore").unlink()
    (repository / ".dvc").rmdir()
    with pytest.raises(Terminal, match=r"has no \.dvc"):
        command._require_dvc(repository)
