"""Step `data` with a folder that `dvc add` and `dvc push` have seen; listings that lie; how rows are read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from hashlib import md5
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from reconciler.core.digests import dvc_listing
from reconciler.core.errors import Terminal
from workflows.steps import pointers
from workflows.steps.pointers import MAX_FILES, Pointer, read_listing, read_pointer
from workflows.steps.rows import read_rows

REPOSITORY = Path(__file__).parents[2]
POINTER = "models/m/data/train.dvc"
A, B = "a" * 32, "b" * 32


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/data/md5"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two quarters in a folder, tracked and pushed by DVC itself."""
    root = tmp_path_factory.mktemp("dvc")
    remote = tmp_path_factory.mktemp("dvc-remote")
    folder = root / "models/m/data/train"
    (folder / "2013").mkdir(parents=True)
    pd.DataFrame({"hour": [3, 4], "late": [0, 1]}).to_parquet(folder / "2013/q2.parquet")
    (folder / "2013/q1.csv").write_text("hour,late\n1,0\n2,1\n")
    dvc(root, "init", "--no-scm")
    dvc(root, "remote", "add", "--default", "here", str(remote))
    dvc(root, "add", "models/m/data/train")
    dvc(root, "push")
    return root


def dvc(root: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "dvc", *arguments, "--quiet"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_folder_that_dvc_added_comes_as_it_was(step, repository, tmp_path) -> None:
    expected = read_pointer(repository, POINTER)
    assert expected.md5.endswith(".dir")
    assert step("data", source=repository, pointer=POINTER, md5=expected.md5, out=tmp_path) == 0
    made = repository / "models/m/data/train"
    names = [path.relative_to(made).as_posix() for path in sorted(made.rglob("*.*"))]
    assert names == ["2013/q1.csv", "2013/q2.parquet"]
    for name in names:
        assert (tmp_path / "data/train" / name).read_bytes() == (made / name).read_bytes()
    assert read_rows(tmp_path / "data").to_dict("list") == {"hour": [1, 2, 3, 4], "late": [0, 1, 0, 1]}


def test_a_new_quarter_is_a_commit_and_only_it_is_fetched(step, repository, tmp_path, caplog) -> None:
    caplog.set_level("INFO")
    root = tmp_path / "repository"
    shutil.copytree(repository, root)
    before = read_pointer(root, POINTER)
    assert step("data", source=root, pointer=POINTER, md5=before.md5, out=tmp_path / "a") == 0
    (root / "models/m/data/train/2013/q3.csv").write_text("hour,late\n5,0\n")
    dvc(root, "add", "models/m/data/train")
    dvc(root, "push")
    after = read_pointer(root, POINTER)
    assert after.md5 != before.md5
    assert step("data", source=root, pointer=POINTER, md5=after.md5, out=tmp_path / "b") == 0
    assert "3 files" in caplog.messages[-1]
    assert ": 2 in the cache, 1 fetched (14 B), md5 " in caplog.messages[-1]
    assert read_rows(tmp_path / "b/data")["hour"].tolist() == [1, 2, 3, 4, 5]


def test_a_pointer_as_dvc_wrote_it_is_read_without_a_parser_and_means_the_same(repository, monkeypatch) -> None:
    texts = [(path, path.read_text()) for path in (REPOSITORY / "models").rglob("*.dvc")]
    texts.append((repository / POINTER, (repository / POINTER).read_text()))
    parsed = [pointers._read_yaml(text, str(path)) for path, text in texts]
    monkeypatch.setattr(pointers, "_read_yaml", None)
    assert [read_pointer(path.parent, path.name) for path, _ in texts] == parsed


@pytest.mark.parametrize(
    "name",
    ["no", "yes.csv", "rows 1.csv", "'#1.csv'", "0123.csv", "1e5", "a.b.parquet", "größe.csv"],
)
def test_a_pointer_that_is_edited_or_has_a_strange_name_is_yaml(name: str, tmp_path) -> None:
    text = f"outs:\n- md5: {A}\n  size: 3\n  hash: md5\n  path: {name}\n"
    (tmp_path / "plain.dvc").write_text(text)
    (tmp_path / "edited.dvc").write_text(f"# of last year\n{text}desc: rows\n")
    expected = YAML(typ="safe").load(text)["outs"][0]["path"]
    for file in ("plain.dvc", "edited.dvc"):
        assert read_pointer(tmp_path, file) == Pointer(A, str(expected))


def test_the_listing_is_made_as_dvc_makes_it(repository) -> None:
    made = repository / "models/m/data/train"
    files = {
        path.relative_to(made).as_posix(): md5(path.read_bytes()).hexdigest() for path in made.rglob("*.*")
    }
    assert md5(dvc_listing(files)).hexdigest() + ".dir" == read_pointer(repository, POINTER).md5


# --- listings that lie ------------------------------------------------------------------------------------


def listing(*entries: tuple[str, str]) -> bytes:
    return json.dumps([{"md5": md5, "relpath": path} for md5, path in entries]).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"nonsense", "is not the listing of a folder"),
        (b"7", "is not the listing of a folder"),
        (b'[{"md5": "0"}]', "is not the listing of a folder"),
        (b"[]", "has 0 files"),
        (listing((A, "../a.csv")), r"has the path '\.\./a\.csv'"),
        (listing((A, "q/../../a.csv")), "which is not one below a folder"),
        (listing((A, "/etc/a.csv")), "which is not one below a folder"),
        (listing((A, "q//a.csv")), "which is not one below a folder"),
        (listing((A, "./a.csv")), "which is not one below a folder"),
        (listing((A, "q\\a.csv")), "which is not one below a folder"),
        (listing((A, "a\n.csv")), "which is not one below a folder"),
        (listing((A, "")), "which is not one below a folder"),
        (listing(("../../x", "a.csv")), r"has no md5 for 'a\.csv'"),
        (listing((A + ".dir", "a.csv")), "has no md5"),
        (listing((A, "a.csv"), (B, "a.csv")), "has a path twice"),
        (listing((A, "q"), (B, "q/a.csv")), "has 'q' as a file and as a folder"),
    ],
)
def test_a_listing_that_is_none_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(Terminal, match=said) as refusal:
        read_listing(content, Pointer(f"{A}.dir", "train"))
    assert refusal.value.where == "train"


def test_a_listing_has_a_limit() -> None:
    entries = [(A, f"{number}.csv") for number in range(MAX_FILES + 1)]
    with pytest.raises(Terminal, match=f"has {MAX_FILES + 1} files"):
        read_listing(listing(*entries), Pointer(f"{A}.dir", "train"))


def test_a_listing_with_a_path_out_of_the_folder_writes_nothing(step, tmp_path, capsys) -> None:
    content = listing((A, "../../../escaped.csv"))
    name = md5(content).hexdigest() + ".dir"
    stored = tmp_path / "remote/files/md5" / name[:2] / name[2:]
    stored.parent.mkdir(parents=True)
    stored.write_bytes(content)
    root = tmp_path / "repository"
    (root / ".dvc").mkdir(parents=True)
    config = f"[core]\n    remote = here\n['remote \"here\"']\n    url = {tmp_path}/remote\n"
    (root / ".dvc/config").write_text(config)
    (root / "train.dvc").write_text(f"outs:\n- md5: {name}\n  hash: md5\n  path: train\n")
    assert step("data", source=root, pointer="train.dvc", md5=name, out=tmp_path / "out") == 1
    assert "which is not one below a folder" in capsys.readouterr().err
    assert not list(tmp_path.rglob("escaped.csv"))


# --- rows -------------------------------------------------------------------------------------------------


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / "train" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_files_are_read_in_the_order_of_their_paths(tmp_path) -> None:
    frame = read_rows(write(tmp_path, q10="a,b\n10,0\n", q2="b,a\n0,2\n", q1="a,b\n1,0\n"))
    assert frame["a"].tolist() == [1, 10, 2]
    assert frame.columns.tolist() == ["a", "b"]
    assert frame.index.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ("a,c\n1,2\n", r"train/q2\.csv: lacks 'b' and has besides 'c', compared with train/q1\.csv"),
        ("a\n1\n", r"train/q2\.csv: lacks 'b', compared"),
        ("a,b\n", r"train/q2\.csv: has no rows"),
        ("", r"train/q2\.csv: is not readable"),
    ],
)
def test_a_file_that_does_not_fit_is_named(second: str, said: str, tmp_path) -> None:
    folder = write(tmp_path, q1="a,b\n1,2\n", q2=second)
    with pytest.raises(Terminal, match=said):
        read_rows(folder)


def test_what_is_no_table_is_named(tmp_path) -> None:
    folder = write(tmp_path, q1="a,b\n1,2\n")
    (folder / "train/notes.txt").write_text("of no use")
    with pytest.raises(Terminal, match=r"train/notes\.txt: is not a table"):
        read_rows(folder)


def test_an_empty_folder_and_two_tables_are_refused(tmp_path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(Terminal, match="holds no file"):
        read_rows(tmp_path)
    (tmp_path / "more.csv").write_text("a\n1\n")
    with pytest.raises(Terminal, match="holds 2 files, not one"):
        read_rows(tmp_path)
