"""A mirror over HTTP: with whose credentials, where they must not be seen, and what a push may overwrite."""

from __future__ import annotations

import base64
import logging
import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from reconciler.adapters.git_command import LostRace
from reconciler.adapters.git_source import GitSource
from reconciler.adapters.mirror import Credentials, Mirror
from reconciler.core.errors import Retryable, Terminal, TrueupError
from tests.contract.forge_worlds import git

TOKEN = "planted-secret-0123456789"
_SHOWN = (TOKEN, base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode())


class Handler(BaseHTTPRequestHandler):
    """``git http-backend`` behind a password, which looks at the process list while its client runs."""

    server: Server

    def answer(self) -> None:
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = process.read_bytes().decode(errors="replace")
            except OSError:
                continue
            self.server.seen += [line] if any(secret in line for secret in _SHOWN) else []
            self.server.running |= {line.split("\0", 1)[0].rpartition("/")[2]}
        said = self.headers.get("Authorization", "")
        self.server.asked.append(said)
        if said != f"Basic {_SHOWN[1]}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.server.moved_to:
            self.send_response(302)
            self.send_header("Location", self.server.moved_to + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        environment = os.environ | {
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "trueup",
        }
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        done = subprocess.run(
            ["git", "http-backend"], env=environment, input=body, capture_output=True, check=True
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(fields.pop("Status", "200")[:3]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


class Server(ThreadingHTTPServer):
    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.asked: list[str] = []
        self.seen: list[str] = []
        self.running: set[str] = set()
        self.moved_to = ""
        git(root, "init", "--quiet", "--bare", "--initial-branch=main", "origin.git")
        git(root / "origin.git", "config", "http.receivepack", "true")
        git(root, "clone", "--quiet", "origin.git", "clone")
        self.main = self.commit("main")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/origin.git"

    def commit(self, branch: str) -> str:
        git(self.root / "clone", "commit", "--quiet", "--allow-empty", "-m", "more")
        git(self.root / "clone", "push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
        return git(self.root / "clone", "rev-parse", "HEAD")

    def tip(self, branch: str) -> str:
        return git(self.root / "origin.git", "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def credentials(token: str = TOKEN) -> Credentials:
    return Credentials(lambda: token, "$FORGE_TOKEN")


@pytest.fixture
def mirror(server: Server, tmp_path: Path) -> Mirror:
    return Mirror(server.url, tmp_path / "cache", credentials=credentials())


def built(mirror: Mirror, server: Server, name: str) -> str:
    """A commit that only the mirror has."""
    folder = mirror.fetch().git_dir
    return git(folder, "commit-tree", "-p", server.main, "-m", name, f"{server.main}^{{tree}}")


def test_a_token_is_in_no_argument_list_file_address_or_log(
    server: Server, mirror: Mirror, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert GitSource(server.url, tmp_path / "cache", credentials=credentials()).head() == server.main
    new = built(mirror, server, "new")
    mirror.push("trueup/a", old="", new=new)
    assert server.tip("trueup/a") == new
    assert "git-remote-http" in server.running, "the process list was not seen while Git ran"
    assert server.seen == []
    assert set(server.asked) == {f"Basic {_SHOWN[1]}"}
    kept = [path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert kept
    assert not any(secret.encode() in content for secret in _SHOWN for content in kept)
    assert not any(secret in caplog.text for secret in _SHOWN)


@pytest.mark.parametrize("helper", ["store", "!echo password=x; echo username=y; :"])
def test_a_wrong_token_is_said_and_no_other_is_tried(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helper: str
) -> None:
    (tmp_path / "settings").write_text(f'[credential]\n\thelper = "{helper}"\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "settings"))
    monkeypatch.setenv("GIT_ASKPASS", "/bin/echo")
    wrong = "wrong-secret-987"
    source = GitSource(server.url, tmp_path / "cache", credentials=credentials(wrong))
    with pytest.raises(
        Retryable, match=r"hint: check the network, the address, and the token in \$FORGE_TOKEN"
    ) as told:
        source.head()
    sent = base64.b64encode(f"x-access-token:{wrong}".encode()).decode()
    assert not any(secret in f"{told.value!s}{told.value!r}" for secret in (wrong, sent))
    empty = base64.b64encode(b":").decode()
    assert set(server.asked) <= {f"Basic {sent}", f"Basic {empty}"}


def test_a_token_is_not_carried_on_to_another_address(server: Server, mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with Server(tmp_path / "elsewhere") as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.02,))
        thread.start()
        server.moved_to = f"http://localhost:{other.server_port}"
        with pytest.raises(TrueupError):
            mirror.fetch()
        other.shutdown()
        thread.join()
        assert other.asked == []


def test_a_push_moves_only_what_it_expects(server: Server, mirror: Mirror) -> None:
    first, second = built(mirror, server, "first"), built(mirror, server, "second")
    mirror.push("trueup/a", old="", new=first)
    mirror.push("trueup/a", old="", new=first)
    mirror.push("trueup/a", old=first, new=second)
    theirs = server.commit("trueup/b")
    for branch, old in (("trueup/a", first), ("trueup/a", ""), ("trueup/b", ""), ("trueup/b", first)):
        with pytest.raises(LostRace, match=f"branch {branch} moved on"):
            mirror.push(branch, old=old, new=built(mirror, server, "third"))
    assert (server.tip("trueup/a"), server.tip("trueup/b")) == (second, theirs)
    with pytest.raises(LostRace):
        mirror.push("trueup/b", old=second, new="")
    mirror.push("trueup/a", old=second, new="")
    mirror.push("trueup/a", old=second, new="")
    assert (server.tip("trueup/a"), server.tip("trueup/b")) == ("", theirs)


def test_of_pushes_at_once_one_wins(server: Server, tmp_path: Path) -> None:
    mirrors = [Mirror(server.url, tmp_path / f"cache{n}", credentials=credentials()) for n in range(4)]
    commits = [built(mirror, server, f"{n}") for n, mirror in enumerate(mirrors)]

    def push(n: int) -> bool:
        try:
            mirrors[n].push("trueup/a", old="", new=commits[n])
        except LostRace:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(push, range(4)))
    assert won.count(True) == 1
    assert server.tip("trueup/a") == commits[won.index(True)]


def test_a_push_that_the_remote_refuses_is_terminal(server: Server, mirror: Mirror) -> None:
    hook = server.root / "origin.git" / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho protected >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(Terminal, match=r"the push of trueup/a is refused: .*hook declined") as told:
        mirror.push("trueup/a", old="", new=built(mirror, server, "new"))
    assert not isinstance(told.value, Retryable)
    assert server.tip("trueup/a") == ""
