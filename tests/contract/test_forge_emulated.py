"""GitHub's adapter against a server that others wrote after GitHub: npm's `emulate`, as far as it goes.

It knows Apps and checks their signatures, makes real Git objects, and has check runs, reviews and comments. It
is lax (it lets a second pull request in, and merges whatever it is asked to), signs no commits, counts no
comments, says neither whose a check run is nor who closed it, has no commit statuses, GraphQL or diffs, and a
pull request keeps the head that it was opened with. What that leaves out is in test_forge.py.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from reconciler.adapters.forges.github import GitHubForge
from reconciler.adapters.forges.github_app import GitHubApp
from reconciler.core.errors import Retryable, Terminal
from reconciler.core.observed import Check
from reconciler.core.plan import FileChange
from tests.contract import github_requests
from tests.contract.forge_worlds import BRANCH, MARKER, PIN, propose
from tests.contract.github_server import APP, BOT, INSTALLATION
from tests.contract.test_forge_github import PEM
from tests.servers.emulate import running
from tests.servers.programs import or_skipped

pytestmark = pytest.mark.forge

NAMES = [f"r{n}" for n in range(20)]
PERMISSIONS = dict.fromkeys(("contents", "pull_requests", "issues", "checks"), "write") | {"metadata": "read"}
SEED = {
    "tokens": {f"token-{name.lower()}": {"login": name, "scopes": ["repo"]} for name in ("o", "trueup", "Ada")},
    "github": {
        "users": [
            {"login": "o"},
            *({"login": n, "email": f"{n.lower()}@example.org"} for n in ("trueup", "Ada")),
        ],
        "repos": [{"owner": "o", "name": name, "auto_init": True} for name in NAMES],
        "apps": [
            {
                "app_id": APP,
                "slug": BOT.removesuffix("[bot]"),
                "name": "trueup",
                "private_key": PEM,
                "permissions": PERMISSIONS,
                "installations": [
                    {
                        "installation_id": INSTALLATION,
                        "account": "o",
                        "repository_selection": "all",
                        "permissions": PERMISSIONS,
                    }
                ],
            }
        ],
    },
}
_numbers = itertools.count()
_NOTHING = "0" * 40


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with or_skipped(running(tmp_path_factory.mktemp("emulate"), SEED)) as address:
        yield address


class Transport(httpx.HTTPTransport):
    """Real calls, each checked first; the one GraphQL that is asked here is done over REST."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/graphql":
            github_requests.check(request)
            if request.url.path.endswith("/statuses"):
                return httpx.Response(200, json=[])
            if re.fullmatch(r".*/issues/\d+", request.url.path):
                return httpx.Response(200, json={"closed_by": None})
            return super().handle_request(request)
        body = json.loads(request.content)
        if "viewer" in body["query"]:
            who = self._rest(request, "GET", "/user").json()["login"]
            return httpx.Response(200, json={"data": {"viewer": {"login": who}}})
        (update,) = body["variables"]["input"]["refUpdates"]
        place, ref, new = f"/repos/o/{self.repository}/git", update["name"], update["afterOid"]
        there = self._rest(request, "GET", f"{place}/ref/{ref.removeprefix('refs/')}")
        tip = there.json()["object"]["sha"] if there.is_success else _NOTHING
        if tip != update["beforeOid"]:
            return httpx.Response(200, json={"errors": [{"type": "UNPROCESSABLE", "message": "beforeOid"}]})
        if new == _NOTHING:
            done = self._rest(request, "DELETE", f"{place}/refs/{ref.removeprefix('refs/')}")
        elif tip == _NOTHING:
            done = self._rest(request, "POST", f"{place}/refs", {"ref": ref, "sha": new})
        else:
            wish = {"sha": new, "force": True}
            done = self._rest(request, "PATCH", f"{place}/refs/{ref.removeprefix('refs/')}", wish)
        if done.is_success:
            return httpx.Response(200, json={"data": {"updateRefs": {"clientMutationId": None}}})
        return httpx.Response(200, json={"errors": [{"type": "UNPROCESSABLE", "message": done.text}]})

    repository = ""

    def _rest(self, like: httpx.Request, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"Authorization": like.headers["Authorization"]}
        answer = super().handle_request(
            httpx.Request(method, like.url.copy_with(path=path), headers=headers, json=body)
        )
        answer.read()
        return answer


class Emulated:
    """A repository of its own on the emulator."""

    def __init__(self, url: str) -> None:
        self.url, self.name = url, NAMES[next(_numbers)]
        self.transport = Transport()
        self.transport.repository = self.name
        self.owner = httpx.Client(
            base_url=f"{url}/repos/o/{self.name}", headers={"Authorization": "Bearer token-o"}
        )
        for name, role in (("trueup", "push"), ("Ada", "admin")):
            self.owner.put(f"/collaborators/{name}", json={"permission": role}).raise_for_status()

    def forge(self, who: str = "trueup") -> GitHubForge:
        clock = lambda: datetime.now(UTC)  # noqa: E731
        token: Any = lambda: f"token-{who.lower()}"  # noqa: E731
        if who == BOT:
            token = GitHubApp(
                self.url,
                APP,
                INSTALLATION,
                lambda: PEM,
                key_from="$KEY",
                repository=f"o/{self.name}",
                clock=clock,
                transport=self.transport,
            )
        wish: dict[str, Any] = {"token_from": "$T", "transport": self.transport, "sleep": lambda seconds: None}
        return GitHubForge(self.url, f"o/{self.name}", token, clock=clock, **wish)

    def tip(self, branch: str = "main") -> str:
        found = self.owner.get(f"/git/ref/heads/{branch}")
        return str(found.json()["object"]["sha"]) if found.is_success else ""

    def comments(self, number: int) -> list[str]:
        return [comment["body"] for comment in self.owner.get(f"/issues/{number}/comments").json()]

    def text(self, path: str, ref: str) -> str:
        answer = self.owner.get(
            f"/contents/{path}", params={"ref": ref}, headers={"Accept": "application/vnd.github.raw"}
        )
        return answer.text if answer.is_success else ""


@pytest.fixture
def world(url: str) -> Emulated:
    return Emulated(url)


@pytest.fixture(params=["trueup", BOT])
def who(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_open_commits_on_base_and_is_found_again(world: Emulated, who: str) -> None:
    forge, main = world.forge(who), world.tip()
    files = (
        FileChange(path=PIN, content="größer: 2\n"),
        FileChange(path="README.md"),
        FileChange(path="no/such"),
    )
    number = propose(forge, main, files=files, draft=True)
    (pull,) = forge.sweep().open.values()
    assert (pull.number, pull.state, pull.branch, pull.base) == (number, "open", BRANCH, "main")
    assert (pull.author, pull.ours, pull.draft, pull.marker) == (who, True, True, MARKER)
    assert pull.head == world.tip(BRANCH)
    commit = world.owner.get(f"/git/commits/{pull.head}").json()
    assert [parent["sha"] for parent in commit["parents"]] == [main]
    assert commit["message"] == "Promote digits to staging"
    assert (world.text(PIN, BRANCH), world.text("README.md", BRANCH)) == ("größer: 2\n", "")
    assert forge.get(number).mergeable
    assert propose(world.forge(who), main, "version: 3\n") == number
    assert [label["name"] for label in world.owner.get(f"/issues/{number}/labels").json()] == ["trueup"]


def test_threads_that_open_one_branch_make_one_pull_request(world: Emulated) -> None:
    main = world.tip()
    with ThreadPoolExecutor(4) as pool:
        numbers = set(pool.map(lambda n: propose(world.forge(), main, f"version: {n}\n"), range(4)))
    assert {*world.forge().sweep().open} == numbers
    assert len(numbers) == 1


def test_a_head_that_was_not_judged_is_not_merged_and_the_judged_one_is(world: Emulated, who: str) -> None:
    forge, main = world.forge(who), world.tip()
    number = propose(forge, main)
    with pytest.raises(Retryable, match="moved on"):
        forge.merge(number, head="0" * 40, message="merge")
    head = forge.get(number).head
    commit = forge.merge(number, head=head, message="Promote digits to staging\n\ntrueup: yes")
    assert world.tip() == commit
    made = world.owner.get(f"/git/commits/{commit}").json()
    assert [parent["sha"] for parent in made["parents"]] == [main, head]
    assert made["message"].split("\n\n") == ["Promote digits to staging", "trueup: yes"]
    assert forge.merge(number, head=head, message="again") == commit
    assert dict(forge.merged()) == {commit: number}
    (pull,) = forge.closed(BRANCH)
    assert (pull.state, pull.merge_commit, pull.head) == ("merged", commit, head)
    with pytest.raises(Terminal, match="is merged already"):
        forge.close(number, reason="late")


def test_a_branch_of_ours_is_deleted_with_its_pull_request(world: Emulated) -> None:
    forge = world.forge()
    number = propose(forge, world.tip())
    forge.close(number, reason="superseded by version 3")
    assert world.tip(BRANCH) == ""
    (pull,) = forge.closed(BRANCH)
    assert (pull.state, pull.number) == ("closed", number)
    assert world.comments(number) == ["superseded by version 3"]
    again = propose(forge, world.tip(), "version: 3\n")
    assert list(forge.sweep().open) == [again]


def test_an_app_shows_checks_and_people_approve(world: Emulated) -> None:
    forge = world.forge(BOT)
    number = propose(forge, world.tip(), reviewers=("Ada",))
    head = forge.get(number).head
    checks = (
        Check(name="gate/accuracy", state="success", summary="0.97 >= 0.9"),
        Check(name="trueup/admission", state="pending"),
    )
    forge.publish(number, head=head, checks=checks)
    runs = world.owner.get(f"/commits/{head}/check-runs").json()["check_runs"]
    shown = {run["name"]: (run["status"], run["conclusion"], run["output"]["title"]) for run in runs}
    assert shown == {
        "gate/accuracy": ("completed", "success", "0.97 >= 0.9"),
        "trueup/admission": ("in_progress", None, None),
    }
    assert world.forge("Ada").approve(number) == head
    assert [(a.by, a.head) for a in forge.get(number).approvals] == [("Ada", head)]


def test_one_comment_is_kept(world: Emulated, who: str) -> None:
    forge, mark = world.forge(who), "<!-- trueup-plan -->"
    number = propose(forge, world.tip())
    assert forge.keep_comment(number, "one", mark=mark)
    assert not forge.keep_comment(number, "one", mark=mark)
    assert forge.keep_comment(number, "two", mark=mark)
    assert world.comments(number) == [f"two\n\n{mark}"]


def test_what_was_seen_costs_little_and_the_rest_is_counted(world: Emulated, who: str) -> None:
    forge = world.forge(who)
    propose(forge, world.tip())
    first = forge.sweep().remaining
    assert first is not None
    assert 0 < first <= 5000
