"""What `reconcile doctor` says of a forge, by GitHub's answers (github_server.py) and by Gitea's.

The real Gitea is asked in tests/integration/test_commands_on_gitea.py.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from reconciler.adapters.forges.gitea import GiteaForge
from reconciler.adapters.forges.rest import RestForge
from reconciler.adapters.mirror import Mirror
from reconciler.core.errors import Retryable, Terminal
from reconciler.core.finding import Finding
from tests.contract.forge_worlds import GitHubWorld, World
from tests.contract.test_forge_github import app

PROTECT = "allow merges by pull request only, and with the check trueup/admission"


class Gitea:
    """The answers of Gitea 1.26 to what is asked here, as far as they are read."""

    def __init__(self) -> None:
        self.push, self.protected = True, False
        self.before: Callable[[str], httpx.Response | None] = lambda call: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1")
        answers: dict[str, Any] = {
            "/user": {"login": "trueup", "email": "trueup@example.org"},
            "/repos/o/r": {
                "default_branch": "main",
                "permissions": {"admin": False, "push": self.push, "pull": True},
            },
            "/repos/o/r/branches/main": {"name": "main", "protected": self.protected},
        }
        call = f"{request.method} {path.removeprefix('/repos/o/r') or '/'}"
        return self.before(call) or httpx.Response(200, json=answers[path])


class Place(NamedTuple):
    """A forge, and how to change what it says."""

    forge: RestForge
    server: Any
    protect: Callable[[], None]
    take_push: Callable[[], None]

    def found(self) -> list[tuple[str, str, str]]:
        findings = list(self.forge.diagnose(()))
        assert all(isinstance(each, Finding) and each.where.endswith("/o/r") for each in findings)
        return [(each.state, each.what, each.hint) for each in findings]

    def answer(self, call: str, status: int, message: str = "no") -> None:
        """In the forge's place."""
        answer = httpx.Response(status, json={"message": message})
        self.server.before = lambda asked: answer if asked == call else None


@pytest.fixture(params=["github", "gitea"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "github":
        world = GitHubWorld(tmp_path)
        return Place(
            world.forge(),
            world.github,
            lambda: world.github.protected.add("main"),
            lambda: world.github.roles.update(trueup="read"),
        )
    server, origin = Gitea(), World(tmp_path).origin
    forge = GiteaForge(
        "https://git.example.org",
        "o/r",
        lambda: "token-trueup",
        token_from="$FORGE_TOKEN",
        cache=tmp_path / "cache",
        clock=lambda: datetime(2026, 3, 1, tzinfo=UTC),
        transport=httpx.MockTransport(server),
        sleep=lambda _: None,
    )
    forge._mirror = Mirror(str(origin), tmp_path / "cache")  # Git speaks no HTTP that a test can answer
    return Place(
        forge,
        server,
        lambda: setattr(server, "protected", True),
        lambda: setattr(server, "push", False),
    )


WRITES = ("ok", "trueup may write to the repository", "")
OPEN = ("warn", "main is not protected: anybody who may write can push to it", PROTECT)


def test_everything_is_right(place: Place) -> None:
    place.protect()
    assert place.found() == [WRITES, ("ok", "main is protected", "")]


def test_the_default_branch_is_not_protected(place: Place) -> None:
    assert place.found() == [WRITES, OPEN]


def test_the_account_may_not_write(place: Place) -> None:
    place.take_push()
    hint = "give this account write access to this repository, and no other"
    assert place.found() == [("fail", "trueup may not write to the repository", hint), OPEN]


def test_the_protection_may_not_be_read(place: Place) -> None:
    place.answer("GET /branches/main", 403, "Resource not accessible")
    writes, (state, what, hint) = place.found()
    assert writes == WRITES
    assert (state, hint) == ("warn", PROTECT)
    assert what.startswith("whether main is protected is not told: GET /repos/o/r/branches/main is refused")
    assert what.endswith("with status 403: Resource not accessible")


def test_the_default_branch_is_not_there(place: Place) -> None:
    place.answer("GET /branches/main", 404)
    assert place.found()[1] == ("fail", "the default branch main is not there", "push a commit to it")


def test_the_repository_is_missing(place: Place) -> None:
    place.answer("GET /", 404, "Not Found")
    with pytest.raises(Terminal, match="GET /repos/o/r is refused with status 404") as refused:
        place.found()
    assert refused.value.hint == "check the name, and that the account of $FORGE_TOKEN may see it"


@pytest.mark.parametrize("call", ["GET /", "GET /branches/main"])
def test_the_server_is_down(place: Place, call: str) -> None:
    place.answer(call, 502)
    with pytest.raises(Retryable, match="failed in the forge with status 502") as failed:
        place.found()
    assert failed.value.hint


def test_no_answer_at_all(place: Place) -> None:
    def lost(call: str) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    place.server.before = lost
    with pytest.raises(Retryable, match="got no answer: connection refused"):
        place.found()


def test_of_an_app_github_tells_no_permissions(tmp_path: Path) -> None:
    world = GitHubWorld(tmp_path)
    world.github.protected.add("main")
    forge = world.forge(token=app(world, lambda: datetime.now(UTC)))
    assert [(each.state, each.what) for each in forge.diagnose(())] == [("ok", "main is protected")]
    assert "GET /branches/main" in world.github.calls
