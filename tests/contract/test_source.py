"""The contract of a Source: history and files of one repository, as they are in Git and not on a disk."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import git as gitpython
import pytest

from reconciler.adapters.git_command import GitCommand
from reconciler.adapters.git_source import GitSource
from reconciler.core.errors import Retryable, Terminal
from reconciler.ports import Source

DATE = "2026-03-01T12:00:00+00:00"
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "Ada"), ("EMAIL", "ada@example.org"), ("DATE", DATE))
    },
}


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> str:
    done = subprocess.run(
        ["git", "-C", folder, *arguments], input=stdin, env=ENVIRONMENT, check=True, capture_output=True
    )
    return os.fsdecode(done.stdout).strip()


class Remote:
    """A bare repository and a clone that pushes to it."""

    def __init__(self, folder: Path) -> None:
        self.bare, self.clone = folder / "origin.git", folder / "clone"
        git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(self.bare))
        git(folder, "clone", "--quiet", str(self.bare), str(self.clone))
        git(self.clone, "checkout", "--quiet", "-B", "main")
        self.commit({"a.txt": "one\n"}, "first")

    def commit(self, files: dict[str, str], subject: str, branch: str = "main") -> str:
        for path, text in files.items():
            (self.clone / path).parent.mkdir(parents=True, exist_ok=True)
            (self.clone / path).write_text(text)
        git(self.clone, "add", "--all")
        git(self.clone, "commit", "--quiet", "--allow-empty", "-m", subject)
        return self.push(branch)

    def push(self, branch: str = "main") -> str:
        git(self.clone, "push", "--quiet", "--force", "origin", f"HEAD:refs/heads/{branch}")
        return git(self.clone, "rev-parse", "HEAD")

    def raw_tree(self, *entries: tuple[str, str, bytes]) -> str:
        """Push a commit of (mode, object id, path) entries that no working tree could make."""
        lines = b"".join(f"{mode} {oid}\t".encode() + path + b"\0" for mode, oid, path in entries)
        git(self.clone, "read-tree", "--empty")
        git(self.clone, "update-index", "-z", "--index-info", stdin=lines)
        return self.push_tree(git(self.clone, "write-tree"))

    def push_tree(self, tree: str) -> str:
        commit = git(self.clone, "commit-tree", tree, "-p", "main", "-m", "raw")
        git(self.clone, "push", "--quiet", "origin", f"{commit}:refs/heads/main")
        return commit

    def blob(self, content: bytes) -> str:
        return git(self.clone, "hash-object", "-w", "--stdin", stdin=content)


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(tmp_path)


@pytest.fixture(params=["mirror"])
def open_source(remote: Remote, tmp_path: Path) -> Callable[[], Source]:
    """Makes sources of the remote that share one cache, as two processes on one machine do."""
    return lambda: GitSource(str(remote.bare), tmp_path / "cache")


@pytest.fixture
def source(open_source: Callable[[], Source]) -> Source:
    return open_source()


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The Git commands that are started from here on."""
    started: list[str] = []
    execute: Any = gitpython.Git.execute

    def counted(self: gitpython.Git, command: list[str], **options: object) -> object:
        started.append(next(part for part in command[1:] if part[0] != "-" and "=" not in part))
        return execute(self, command, **options)

    monkeypatch.setattr(gitpython.Git, "execute", counted)
    return started


def test_head_follows_the_remote_and_its_default_branch(source: Source, remote: Remote) -> None:
    first = source.head()
    assert first == git(remote.clone, "rev-parse", "HEAD")
    second = remote.commit({"a.txt": "two\n"}, "second")
    assert source.head() == second
    remote.commit({"a.txt": "three\n"}, "on trunk", branch="trunk")
    git(remote.bare, "symbolic-ref", "HEAD", "refs/heads/trunk")
    assert source.head() == source.resolve("trunk") != second


def test_a_named_branch_wins_over_the_remotes_head(remote: Remote, tmp_path: Path) -> None:
    main = git(remote.clone, "rev-parse", "HEAD")
    live = remote.commit({"a.txt": "live\n"}, "live", branch="live")
    assert GitSource(f"file://{remote.bare}", tmp_path / "cache", "live").head() == live
    default = GitSource(str(remote.bare), tmp_path / "cache")
    assert default.head() == main
    assert GitSource(str(remote.bare), tmp_path / "cache", "live").head() == live
    assert [commit.oid for commit in default.log("a.txt")] == [main]
    with pytest.raises(Terminal, match="there is no branch refs/heads/gone"):
        GitSource(str(remote.bare), tmp_path / "cache", "gone").head()


def test_a_clone_at_a_commit_is_read_at_that_commit(remote: Remote, tmp_path: Path) -> None:
    source = GitSource(str(remote.clone), tmp_path / "cache")
    main = source.head()
    git(remote.clone, "checkout", "--quiet", "--detach")
    git(remote.clone, "commit", "--quiet", "--allow-empty", "-m", "on no branch")
    here = git(remote.clone, "rev-parse", "HEAD")
    assert source.head() == source.resolve(here) == here
    assert source.resolve("main") == main != here
    git(remote.clone, "checkout", "--quiet", "main")
    assert source.head() == main


def test_a_force_pushed_main_is_followed(source: Source, remote: Remote) -> None:
    lost = remote.commit({"a.txt": "lost\n"}, "lost")
    assert source.head() == lost
    git(remote.clone, "reset", "--quiet", "--hard", "HEAD~1")
    kept = remote.commit({"a.txt": "kept\n"}, "kept")
    assert source.head() == kept
    assert [c.subject for c in source.log("a.txt")] == ["kept", "first"]


def test_pull_requests_are_mirrored_and_deleted_branches_pruned(source: Source, remote: Remote) -> None:
    head = remote.commit({"a.txt": "proposed\n"}, "proposed", branch="topic")
    git(remote.bare, "update-ref", "refs/pull/7/head", head)
    source.head()
    assert source.resolve("topic") == source.resolve(head[:10]) == head
    git(remote.bare, "update-ref", "-d", "refs/heads/topic")
    source.head()
    assert source.resolve(head) == head
    with pytest.raises(Terminal, match="'topic' is not in the repository"):
        source.resolve("topic")


def test_resolve_prefers_a_branch_over_a_tag_and_refuses_what_is_no_name(
    source: Source, remote: Remote
) -> None:
    first = git(remote.clone, "rev-parse", "HEAD")
    git(remote.clone, "tag", "main")
    git(remote.clone, "tag", "-m", "a release", "v1")
    git(remote.clone, "push", "--quiet", "origin", "refs/tags/main", "refs/tags/v1")
    second = remote.commit({}, "second")
    assert source.head() == source.resolve("main") == second
    assert source.resolve("v1") == first
    for bad in ("", "--all", "main..v1", "main^", "v1 ", "HEAD", "@{-1}", "a\nb", "0" * 40):
        with pytest.raises(Terminal, match="is not in the repository"):
            source.resolve(bad)


def test_files_and_trees_of_a_commit(source: Source, remote: Remote, processes: list[str]) -> None:
    commit = remote.commit({"models/digits/src/train.py": "pass\n", "b": ""}, "code")
    (remote.clone / "b").chmod(0o755)
    executable = remote.commit({}, "executable")
    source.head()
    processes.clear()
    files = source.files(commit)
    assert source.files(commit) is files
    assert processes == ["ls-tree"]
    assert list(files) == ["a.txt", "b", "models/digits/src/train.py"]
    assert (files["b"].mode, source.files(executable)["b"].mode) == ("100644", "100755")
    assert source.read([files["a.txt"].oid]) == {files["a.txt"].oid: b"one\n"}
    tree = source.tree(commit, "models/digits/src")
    assert processes == ["ls-tree", "ls-tree", "cat-file"]
    assert tree == git(remote.clone, "rev-parse", f"{commit}:models/digits/src")
    assert source.tree(commit, "models/absent") == source.tree(commit, "a.txt") == ""
    for path in ("../etc", "/etc", "-x", "a\nb"):
        with pytest.raises(Terminal, match="is not a path inside the repository"):
            source.tree(commit, path)
    with pytest.raises(Terminal, match="is not a commit id"):
        source.files("--all")


def test_two_thousand_blobs_are_one_process(source: Source, remote: Remote, processes: list[str]) -> None:
    commit = remote.commit({f"many/{n:04}": f"{n}\n" * (n % 7) for n in range(2000)}, "many")
    source.head()
    oids = {path: blob.oid for path, blob in source.files(commit).items()}
    processes.clear()
    contents = source.read(oids.values())
    assert processes == ["cat-file"]
    assert contents[oids["many/1999"]] == b"1999\n" * 4
    assert contents[oids["many/0007"]] == b""
    source.read(oids.values())
    assert processes == ["cat-file"]
    with pytest.raises(Terminal, match="is not in the repository"):
        source.read(["0" * 40])


def test_log_follows_first_parents_only(source: Source, remote: Remote) -> None:
    start = git(remote.clone, "rev-parse", "HEAD")
    git(remote.clone, "checkout", "--quiet", "-b", "topic")
    remote.commit({"pins/a.yaml": "1\n"}, "on the branch", branch="topic")
    remote.commit({"pins/a.yaml": "2\n"}, "again", branch="topic")
    git(remote.clone, "checkout", "--quiet", "main")
    other = remote.commit({"a.txt": "two\n"}, "elsewhere")
    git(remote.clone, "merge", "--quiet", "--no-ff", "-m", "Merge größer, |%H|", "topic")
    merge = remote.push()
    source.head()
    (found,) = source.log("pins")
    assert (found.oid, found.parent, found.author) == (merge, other, "Ada")
    assert (found.subject, found.at) == ("Merge größer, |%H|", datetime(2026, 3, 1, 12, tzinfo=UTC))
    assert [c.oid for c in source.log("a.txt")] == [other, start]
    assert source.log("a.txt")[-1].parent == ""
    assert source.log("absent") == ()


def test_a_persons_git_settings_change_nothing(
    source: Source, remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = tmp_path / "hooks" / "reference-transaction"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    settings = tmp_path / "gitconfig"
    settings.write_text(
        f"[log]\nshowSignature = true\nfollow = true\n[core]\nhooksPath = {hook.parent}\n[color]\nui = always\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    assert source.head() == git(remote.clone, "rev-parse", "HEAD")
    assert [c.subject for c in source.log("a.txt")] == ["first"]


def test_odd_entries_do_not_break_it(source: Source, remote: Remote, tmp_path: Path) -> None:
    text = remote.blob(b"\xff\x00binary")
    commit = remote.raw_tree(
        ("100644", text, b"caf\xe9/new\nline"),
        ("120000", remote.blob(b"caf\xe9"), b"link"),
        ("160000", "1" * 40, b"vendored"),
    )
    source.head()
    files = source.files(commit)
    assert {os.fsencode(path): blob.mode for path, blob in files.items()} == {
        b"caf\xe9/new\nline": "100644",
        b"link": "120000",
    }
    assert source.read(blob.oid for blob in files.values())[text] == b"\xff\x00binary"
    source.checkout(commit, tmp_path / "out")
    assert Path(os.fsdecode(os.fsencode(tmp_path) + b"/out/link/new\nline")).read_bytes() == b"\xff\x00binary"


def test_checkout_writes_the_committed_bytes(source: Source, remote: Remote, tmp_path: Path) -> None:
    (remote.clone / "run.sh").write_text("#!/bin/sh\r\n")
    (remote.clone / "run.sh").chmod(0o755)
    attributes = "*.sh text eol=lf\na.txt export-ignore export-subst filter=shout\n"
    commit = remote.commit({".gitattributes": attributes, "deep/er/a": "$Format:%H$\n"}, "attributes")
    blob = git(remote.clone, "rev-parse", f"{commit}:run.sh")
    source.head()
    source.checkout(commit, tmp_path / "new" / "out")
    out = tmp_path / "new" / "out"
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()) == [
        ".gitattributes",
        "a.txt",
        "deep/er/a",
        "run.sh",
    ]
    assert (out / "run.sh").read_bytes() == source.read([blob])[blob]
    assert os.access(out / "run.sh", os.X_OK)
    assert (out / "deep/er/a").read_text() == "$Format:%H$\n"
    assert sorted(p.name for p in out.parent.iterdir()) == ["out"]
    with pytest.raises(Terminal, match="hint: name a folder that is not there yet"):
        source.checkout(commit, out)


def test_checkout_refuses_what_is_not_on_the_default_branch(
    source: Source, remote: Remote, tmp_path: Path
) -> None:
    first = git(remote.clone, "rev-parse", "HEAD")
    proposed = remote.commit({"a.txt": "evil\n"}, "proposed", branch="topic")
    source.head()
    for commit in (proposed, "0" * 40):
        with pytest.raises(Terminal, match="is not on the default branch"):
            source.checkout(commit, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    source.checkout(first, tmp_path / "out")


@pytest.mark.parametrize(
    "links",
    [
        {b"link": b"/etc/passwd"},
        {b"link": b"../outside"},
        {b"deep/link": b"../.."},
        {b"deep/er/up": b"../..", b"trick": b"deep/er/up/../outside"},
    ],
)
def test_checkout_refuses_links_that_leave(
    source: Source, remote: Remote, tmp_path: Path, links: dict[bytes, bytes]
) -> None:
    plain = ("100644", remote.blob(b"x"), b"deep/er/file")
    entries = [("120000", remote.blob(to), path) for path, to in links.items()]
    commit = remote.raw_tree(plain, *entries)
    source.head()
    with pytest.raises(Terminal, match="leaves the repository"):
        source.checkout(commit, tmp_path / "out" / "files")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", [b"..", b".git", b".GIT"])
def test_checkout_refuses_names_that_no_git_would_commit(
    source: Source, remote: Remote, tmp_path: Path, name: bytes
) -> None:
    blob = remote.blob(b"x")
    inner = git(remote.clone, "mktree", stdin=f"100644 blob {blob}\tconfig\n".encode())
    raw = b"40000 " + name + b"\0" + bytes.fromhex(inner)
    tree = git(remote.clone, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)
    commit = remote.push_tree(tree)
    source.head()
    with pytest.raises(Terminal, match="cannot be written"):
        source.checkout(commit, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_in_the_place_of_a_folder_is_never_written_through(
    source: Source, remote: Remote, tmp_path: Path
) -> None:
    blob, link = remote.blob(b"x"), remote.blob(str(tmp_path).encode())
    inner = git(remote.clone, "mktree", stdin=f"100644 blob {blob}\tstolen\n".encode())
    raw = b"120000 a\0" + bytes.fromhex(link) + b"40000 a\0" + bytes.fromhex(inner)
    tree = git(remote.clone, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)
    commit = remote.push_tree(tree)
    source.head()
    with pytest.raises(Terminal):
        source.checkout(commit, tmp_path / "out")
    assert not (tmp_path / "stolen").exists()


def test_shallow_clones_are_refused(remote: Remote, tmp_path: Path) -> None:
    remote.commit({"a.txt": "two\n"}, "second")
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{remote.bare}", str(shallow))
    source = GitSource(str(shallow), tmp_path / "cache")
    with pytest.raises(Terminal, match=r"shallow clone.* hint: run: git -C .* fetch --unshallow"):
        source.head()
    git(shallow, "fetch", "--quiet", "--unshallow")
    assert source.head() == git(remote.clone, "rev-parse", "HEAD")


def test_an_unreachable_remote_can_be_tried_again(tmp_path: Path) -> None:
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        source = GitSource(f"http://127.0.0.1:{nobody_listens.getsockname()[1]}/none.git", tmp_path / "cache")
        for _ in range(2):
            with pytest.raises(Retryable, match="hint: check the network"):
                source.head()


def test_a_mirror_answers_while_its_remote_is_away(
    open_source: Callable[[], Source], remote: Remote, tmp_path: Path
) -> None:
    first = open_source().head()
    source = open_source()
    (remote.bare / "HEAD").rename(tmp_path / "away")
    assert source.resolve("main") == first
    with pytest.raises((Retryable, Terminal)):
        source.head()
    (tmp_path / "away").rename(remote.bare / "HEAD")
    assert source.head() == first


def test_an_empty_remote_says_what_is_missing(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--bare", str(tmp_path / "empty.git"))
    with pytest.raises(Terminal, match="hint: push to it, or set its HEAD"):
        GitSource(str(tmp_path / "empty.git"), tmp_path / "cache").head()


@pytest.mark.parametrize(
    "url",
    [
        "https://me:secret@example.org/a.git",
        "ext::sh -c id",
        "--upload-pack=id",
        "ftp://example.org/a",
        "/absent/repo",
    ],
)
def test_addresses_that_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(Terminal) as refused:
        GitSource(url, tmp_path)
    assert "secret" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def _head(open_source: Callable[[], Source], answers: multiprocessing.Queue[str]) -> None:
    answers.put(open_source().head())


def test_processes_and_threads_may_fetch_at_once(open_source: Callable[[], Source], remote: Remote) -> None:
    fork = multiprocessing.get_context("fork")
    for text in ("two\n", "three\n"):
        expected = remote.commit({"a.txt": text}, text)
        answers: multiprocessing.Queue[str] = fork.Queue()
        children = [fork.Process(target=_head, args=(open_source, answers)) for _ in range(4)]
        for child in children:
            child.start()
        with ThreadPoolExecutor(4) as pool:
            seen = list(pool.map(lambda _: open_source().head(), range(4)))
        seen += [answers.get(timeout=30) for _ in children]
        for child in children:
            child.join(30)
        assert seen == [expected] * 8


KILLED = """
import os, signal, sys
from pathlib import Path
from reconciler.adapters.git_command import GitCommand
from reconciler.adapters.git_source import GitSource
run = GitCommand.run
def dies(self, *arguments, **options):
    if arguments[0] == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)
    return run(self, *arguments, **options)
GitCommand.run = dies
GitSource(sys.argv[1], Path(sys.argv[2])).head()
"""


@pytest.mark.parametrize("step", ["init", "fetch", "symbolic-ref"])
def test_a_mirror_that_a_killed_process_left_is_made_again(remote: Remote, tmp_path: Path, step: str) -> None:
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", KILLED, str(remote.bare), str(cache), step]
    assert subprocess.run(command, check=False, timeout=60).returncode == -9
    (mirror,) = {path.with_suffix("") for path in (cache / "mirrors").iterdir()}
    if mirror.exists():
        (mirror / "HEAD.lock").touch()  # what a killed Git leaves
    source = GitSource(str(remote.bare), cache)
    assert source.resolve("main") == source.head() == git(remote.clone, "rev-parse", "HEAD")


def test_a_git_that_hangs_is_ended_with_all_it_started(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ssh").write_text("#!/bin/sh\nexec sleep 600\n")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(tmp_path / "ssh"))
    monkeypatch.setenv("GIT_SSH_VARIANT", "simple")
    start = time.monotonic()
    with pytest.raises(Retryable, match=r"git ls-remote did not end in 0\.5 seconds"):
        GitCommand(remote.bare, timeout=0.5).run("ls-remote", "ssh://example.org/a.git")
    assert time.monotonic() - start < 60  # its output ends only when the last of them has ended


def test_a_fetch_that_outlives_its_process_keeps_the_lock(tmp_path: Path) -> None:
    (tmp_path / "ssh").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\ncat {tmp_path}/go\nexit 1\n")
    (tmp_path / "ssh").chmod(0o755)
    os.mkfifo(tmp_path / "go")
    environment = os.environ | {"GIT_SSH_COMMAND": str(tmp_path / "ssh"), "GIT_SSH_VARIANT": "simple"}
    command = [sys.executable, "-c", KILLED, "ssh://example.org/a.git", str(tmp_path / "cache"), "never"]
    fetching = subprocess.Popen(command, env=environment)
    _until((tmp_path / "started").exists)
    fetching.kill()
    fetching.wait()
    (lock,) = (tmp_path / "cache" / "mirrors").glob("*.lock")
    assert not _is_free(lock)
    (tmp_path / "go").write_text("")
    _until(lambda: _is_free(lock))


def _is_free(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
