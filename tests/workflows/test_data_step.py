"""Step `data`: by md5, through DVC, from a cache that trusts nobody."""

from __future__ import annotations

import errno
import json
import shutil
from hashlib import md5
from pathlib import Path

import pytest

POINTER = "models/digits/data/train.csv.dvc"
MD5 = "bae58a8c19aea75e8d300369b56120a3"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data" / "md5" / MD5[:2] / MD5[2:]


@pytest.fixture
def repository(source: Path, tmp_path: Path) -> Path:
    """A copy that a test may break, with a remote of its own."""
    root = tmp_path / "repository"
    shutil.copytree(source, root)
    config = (root / ".dvc/config").read_text()
    remote = Path(config.rpartition("url = ")[2].strip())
    shutil.copytree(remote, tmp_path / "remote")
    (root / ".dvc/config").write_text(config.replace(str(remote), str(tmp_path / "remote")))
    return root


def test_fetches_once_and_then_finds_it(step, source, cache, tmp_path, caplog) -> None:
    caplog.set_level("INFO")
    assert step("data", source=source, pointer=POINTER, md5=MD5, out=tmp_path / "a") == 0
    assert "0 in the cache, 1 fetched (153.8 kB)" in caplog.text
    caplog.clear()
    assert step("data", source=source, pointer=POINTER, md5=MD5, out=tmp_path / "b") == 0
    assert "nothing fetched" in caplog.text
    for out in ("a", "b"):
        assert md5((tmp_path / out / "data/train.csv").read_bytes()).hexdigest() == MD5


def test_what_is_cached_needs_no_remote(step, repository, cache, tmp_path) -> None:
    assert step("data", source=repository, pointer=POINTER, md5=MD5, out=tmp_path / "a") == 0
    shutil.rmtree(tmp_path / "remote")
    assert step("data", source=repository, pointer=POINTER, md5=MD5, out=tmp_path / "b") == 0


def test_a_damaged_entry_is_noticed_and_fetched_again(step, source, cache, tmp_path, caplog) -> None:
    assert step("data", source=source, pointer=POINTER, md5=MD5, out=tmp_path / "a") == 0
    cache.chmod(0o644)
    cache.write_bytes(b"other bytes")
    assert step("data", source=source, pointer=POINTER, md5=MD5, out=tmp_path / "b") == 0
    assert "damaged" in caplog.text
    assert md5((tmp_path / "b/data/train.csv").read_bytes()).hexdigest() == MD5


def test_a_measurement_names_the_md5_in_its_inputs(step, source, cache, tmp_path) -> None:
    inputs = json.dumps({"data": MD5})
    assert step("data", source=source, pointer=POINTER, inputs=inputs, out=tmp_path) == 0


def test_another_md5_than_the_pointers_is_refused(step, source, cache, tmp_path, capsys) -> None:
    assert step("data", source=source, pointer=POINTER, md5="0" * 32, out=tmp_path) == 1
    assert f"names md5 {MD5}, but the workflow was asked for {'0' * 32}" in capsys.readouterr().err
    assert not cache.exists()


def test_a_remote_without_the_file_says_push(step, repository, cache, tmp_path, capsys) -> None:
    (tmp_path / "remote/files/md5" / MD5[:2] / MD5[2:]).unlink()
    assert step("data", source=repository, pointer=POINTER, md5=MD5, out=tmp_path / "a") == 1
    assert "does not have md5" in (said := capsys.readouterr().err)
    assert "hint: run `dvc push`" in said


def test_a_remote_that_gives_other_bytes_is_not_believed(step, repository, cache, tmp_path, capsys) -> None:
    (tmp_path / "remote/files/md5" / MD5[:2] / MD5[2:]).write_bytes(b"other bytes")
    assert step("data", source=repository, pointer=POINTER, md5=MD5, out=tmp_path / "a") == 1
    assert "the DVC remote gave a file with md5" in capsys.readouterr().err
    assert not cache.exists()


def test_a_remote_that_does_not_answer_may_be_tried_again(
    step, repository, cache, tmp_path, monkeypatch, capsys
):
    from dvc.fs import LocalFileSystem

    def away(*_: object) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr(LocalFileSystem, "get_file", away)
    assert step("data", source=repository, pointer=POINTER, md5=MD5, out=tmp_path / "a") == 75
    assert "did not answer: timed out" in capsys.readouterr().err


def test_a_full_disk_is_not_the_remotes_fault(step, repository, cache, tmp_path, monkeypatch, capsys) -> None:
    from dvc.fs import LocalFileSystem

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LocalFileSystem, "get_file", full)
    assert step("data", source=repository, pointer=POINTER, md5=MD5, out=tmp_path / "a") == 1
    assert (
        "No space left on device. hint: TRUEUP_CACHE and --out name folders with room"
        in capsys.readouterr().err
    )


def test_no_remote_says_which_command(step, repository, cache, tmp_path, capsys) -> None:
    (repository / ".dvc/config").write_text("")
    assert step("data", source=repository, pointer=POINTER, md5=MD5, out=tmp_path / "a") == 1
    assert "hint: run `dvc remote add --default NAME URL`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("nonsense", "is not a DVC pointer to one file"),
        ("outs: []", "is not a DVC pointer to one file"),
        ("outs:\n- md5: 0123\n  path: a.csv\n", "was written by DVC 2"),
        ("outs:\n- md5: 0123.dir\n  hash: md5\n  path: a\n", "names no md5 or no file"),
        (f"outs:\n- md5: {MD5}\n  hash: md5\n  path: ..\n", "names no md5 or no file"),
        (None, "is not a DVC pointer to one file"),
    ],
)
def test_a_pointer_that_is_none_is_named(content, said, step, tmp_path, capsys) -> None:
    if content is not None:
        (tmp_path / "x.dvc").write_text(content)
    assert step("data", source=tmp_path, pointer="x.dvc", md5=MD5, out=tmp_path) == 1
    assert f"data: x.dvc: {said}" in capsys.readouterr().err
