"""What GitHub alone has: Apps, check runs, GraphQL's locks, its refusals, its budget, and unclear answers.

The contract that it shares with the other forges is in test_forge.py. No network: see github_server.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from openapi_core.exceptions import OpenAPIError

from reconciler.adapters.forges.github import GitHubForge
from reconciler.adapters.forges.github_app import GitHubApp
from reconciler.adapters.git_command import LostRace
from reconciler.core.errors import Retryable, Terminal, TrueupError
from reconciler.core.observed import Check
from reconciler.core.plan import FileChange
from tests.contract import github_requests
from tests.contract.forge_worlds import BRANCH, PIN, GitHubWorld, git, propose, revise
from tests.contract.github_server import APP, BOT, INSTALLATION, KEY, GitHub

PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
).decode()


@pytest.fixture
def world(tmp_path: Path) -> GitHubWorld:
    return GitHubWorld(tmp_path)


@pytest.fixture
def github(world: GitHubWorld) -> GitHub:
    return world.github


@pytest.fixture
def forge(world: GitHubWorld) -> GitHubForge:
    return world.forge()


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


def app(world: GitHubWorld, clock: Callable[[], datetime], key: str = PEM) -> GitHubApp:
    return GitHubApp(
        "https://api.github.com",
        APP,
        INSTALLATION,
        lambda: key,
        key_from="/run/secrets/app.pem",
        repository="o/r",
        clock=clock,
        transport=httpx.MockTransport(world.github),
    )


def as_app(world: GitHubWorld) -> GitHubForge:
    clock = Clock()
    return world.forge(token=app(world, clock), token_from="/run/secrets/app.pem", clock=clock)


def once(call: str, do: Callable[[], Any]) -> Callable[[str], Any]:
    """Does it at the first such call, and nothing at any other."""
    left = [do]

    def at(seen: str) -> Any:
        return left.pop()() if seen == call and left else None

    return at


def lose() -> None:
    raise httpx.ReadTimeout("late")


# --- an App -----------------------------------------------------------------------------------------------


def test_a_token_of_an_app_is_kept_until_a_minute_before_its_end(world: GitHubWorld, github: GitHub) -> None:
    clock = Clock()
    token = app(world, clock)
    assert (token(), token(), github.minted) == ("installation-1", "installation-1", 1)
    clock.now += timedelta(minutes=58)
    assert token() == "installation-1"
    clock.now += timedelta(minutes=1, seconds=1)
    assert (token(), github.minted) == ("installation-2", 2)
    assert (token.login, token.number) == (BOT, APP)


def test_a_whole_life_as_an_app(world: GitHubWorld, github: GitHub) -> None:
    forge = as_app(world)
    number = propose(forge, world.rev("main"))
    pull = forge.get(number)
    assert (pull.author, pull.ours, pull.mergeable) == (BOT, True, True)
    assert pull.head in github.verified
    revise(forge, number, pull.head, world.rev("main"), "version: 3\n")
    head = forge.get(number).head
    assert world.person().approve(number) == head
    commit = forge.merge(number, head=head, message="Promote digits to staging")
    assert (world.rev("main"), world.show(f"main:{PIN}")) == (commit, "version: 3")
    assert not git(world.bare, "for-each-ref", f"refs/heads/{BRANCH}")
    (ended,) = forge.closed(BRANCH)
    assert (ended.closed_by, ended.closed_by_us) == (BOT, True)
    assert github.minted == 1
    assert "GET /user" not in github.calls


def test_who_only_says_to_be_the_app_is_not(world: GitHubWorld) -> None:
    forge = as_app(world)
    number = propose(forge, world.rev("main"))
    world.push({"README.md": "slipped in\n"}, BRANCH, who=BOT)
    pull = forge.get(number)
    assert (pull.author, pull.ours) == (BOT, False)
    with pytest.raises(Terminal, match="not trueup's"):
        revise(forge, number, pull.head, world.rev("main"), "version: 3\n")
    assert world.rev(BRANCH) == pull.head


def test_an_app_shows_check_runs_and_the_newest_of_a_name_counts(world: GitHubWorld, github: GitHub) -> None:
    forge = as_app(world)
    number = propose(forge, world.rev("main"))
    head = forge.get(number).head
    states = ("pending", "success", "failure")
    checks = tuple(
        Check(name=f"gate/{n}", state=state, summary=f"{n} >= 0.9") for n, state in enumerate(states)
    )
    silent = Check(name="trueup/admission", state="pending")
    forge.publish(number, head=head, checks=(*checks, silent))
    assert forge.get(number).checks == (*checks, silent)
    made = len(github.runs)
    forge.publish(number, head=head, checks=(*checks, silent))
    assert len(github.runs) == made
    again = (
        checks[0].model_copy(update={"state": "success"}),
        checks[1].model_copy(update={"state": "pending"}),
    )
    forge.publish(number, head=head, checks=again)
    assert forge.get(number).checks == (*again, checks[2], silent)
    github.runs.append({**github.runs[0], "id": 10**6, "app": {"id": APP + 1}, "conclusion": "failure"})
    assert forge.get(number).checks == (*again, checks[2], silent)


def test_a_status_by_someone_else_is_not_ours(world: GitHubWorld, github: GitHub, forge: GitHubForge) -> None:
    number = propose(forge, world.rev("main"))
    head = forge.get(number).head
    ours = Check(name="trueup/admission", state="failure", summary="no")
    forge.publish(number, head=head, checks=(ours,))
    github.statuses.append({**github.statuses[0], "id": 10**6, "creator": {"login": "Ada"}, "state": "success"})
    assert forge.get(number).checks == (ours,)


@pytest.mark.parametrize("key", ["", "not a key", PEM[:200]])
def test_what_is_no_key_is_said_and_not_shown(world: GitHubWorld, github: GitHub, key: str) -> None:
    with pytest.raises(Terminal, match=r"/run/secrets/app\.pem holds no private key of an App") as told:
        app(world, Clock(), key)()
    lines = [line for line in key.splitlines() if not line.startswith("-----")]
    assert [line for line in lines if line in str(told.value)] == []
    assert told.value.__cause__ is None
    assert github.calls == []


def test_a_key_of_another_kind_is_no_key(world: GitHubWorld) -> None:
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(Terminal, match="holds no private key"):
        app(world, Clock(), other.decode())()


def test_tokens_and_keys_are_in_no_message_and_no_log(
    world: GitHubWorld, github: GitHub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    forge = as_app(world)
    number = propose(forge, world.rev("main"))
    refusals: list[Callable[[], Any]] = [
        lambda: httpx.Response(401, json={"message": "Bad credentials installation-1"}),
        lambda: httpx.Response(403, json={"message": "installation-1"}),
        lose,
    ]
    said = []
    for refusal in refusals:
        github.before = once(f"GET /pulls/{number}", refusal)
        try:
            forge.get(number)
        except TrueupError as error:
            said.append(f"{error} {error!r} {vars(error)}")
    text = f"{said} {caplog.text} {vars(forge._http)} {forge.credentials.token_from}"
    assert len(said) == 2
    for secret in ("installation-1", PEM.splitlines()[1]):
        assert secret not in text


# --- unclear answers and races ----------------------------------------------------------------------------


def test_an_opening_whose_answer_was_lost_is_found(
    world: GitHubWorld, github: GitHub, forge: GitHubForge
) -> None:
    github.after = once("POST /pulls", lose)
    assert propose(forge, world.rev("main")) == 1
    assert list(forge.sweep().open) == [1]


def test_an_opening_that_another_won_is_adopted(world: GitHubWorld, github: GitHub, forge: GitHubForge) -> None:
    theirs = world.forge()
    github.before = once("POST /pulls", lambda: propose(theirs, world.rev("main"), "version: 3\n") and None)
    assert propose(forge, world.rev("main")) == 1
    assert github.calls.count("POST /pulls") == 2
    assert list(forge.sweep().open) == [1]


@pytest.mark.parametrize("lax", [True, False])
def test_where_a_twin_is_let_in_the_younger_closes_itself(
    world: GitHubWorld, github: GitHub, forge: GitHubForge, lax: bool
) -> None:
    number = propose(forge, world.rev("main"))
    if lax:  # its list is late and its refusal missing
        hidden = {number: github.pulls.pop(number)}
        github.before = once("POST /pulls", lambda: None)
        github.after = once("POST /pulls", lambda: github.pulls.update(hidden))
    assert propose(forge, world.rev("main")) == number
    assert list(forge.sweep().open) == [number]
    assert [forge.get(n).comments for n in github.pulls if n != number] == (
        [("#1 was opened for the same branch at the same time.",)] if lax else []
    )


def test_a_branch_that_moved_under_an_update_stays(
    world: GitHubWorld, github: GitHub, forge: GitHubForge
) -> None:
    number = propose(forge, world.rev("main"))
    head = forge.get(number).head
    pushed: list[str] = []
    push = lambda: pushed.append(world.push({"README.md": "in between\n"}, BRANCH))  # noqa: E731
    github.before = once("POST /graphql", push)
    with pytest.raises(LostRace, match="moved on from"):
        revise(forge, number, head, world.rev("main"), "version: 3\n")
    assert [world.rev(BRANCH)] == pushed
    assert not forge.get(number).ours


def test_a_branch_whose_move_was_not_answered_is_looked_at(
    world: GitHubWorld, github: GitHub, forge: GitHubForge
) -> None:
    number = propose(forge, world.rev("main"))
    github.after = once("POST /graphql", lose)
    revise(forge, number, forge.get(number).head, world.rev("main"), "version: 3\n")
    assert world.show(f"{BRANCH}:{PIN}") == "version: 3"
    assert github.calls.count("POST /graphql") == 3  # who we are, the first branch, its move


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "RATE_LIMITED", "message": "API rate limit exceeded"}, Retryable),
        ({"message": "Something went wrong while executing your query"}, Retryable),
        ({"type": "FORBIDDEN", "message": "Resource not accessible by integration"}, Terminal),
    ],
)
def test_what_graphql_refuses_is_told_apart_by_its_type(
    world: GitHubWorld, github: GitHub, forge: GitHubForge, error: dict[str, str], kind: type[TrueupError]
) -> None:
    number = propose(forge, world.rev("main"))
    head = forge.get(number).head
    github.before = once("POST /graphql", lambda: httpx.Response(200, json={"data": None, "errors": [error]}))
    with pytest.raises(kind, match=f"GitHub refused updateRefs: {error['message']}"):
        revise(forge, number, head, world.rev("main"), "version: 3\n")
    assert world.rev(BRANCH) == head


def test_a_merge_whose_answer_was_lost_is_looked_at(
    world: GitHubWorld, github: GitHub, forge: GitHubForge
) -> None:
    number = propose(forge, world.rev("main"))
    github.after = once(f"PUT /pulls/{number}/merge", lose)
    commit = forge.merge(number, head=forge.get(number).head, message="merge")
    assert commit == world.rev("main")
    assert github.calls.count(f"PUT /pulls/{number}/merge") == 1


def test_a_head_that_moved_before_the_merge_is_not_merged(
    world: GitHubWorld, github: GitHub, forge: GitHubForge
) -> None:
    number, main = propose(forge, world.rev("main")), world.rev("main")
    push = lambda: world.push({"README.md": "slipped in\n"}, BRANCH) and None  # noqa: E731
    github.before = once(f"PUT /pulls/{number}/merge", push)
    with pytest.raises(Retryable, match="moved on from"):
        forge.merge(number, head=forge.get(number).head, message="merge")
    assert world.rev("main") == main


def test_a_protection_that_refuses_is_told_in_its_own_words(
    world: GitHubWorld, github: GitHub, forge: GitHubForge
) -> None:
    number = propose(forge, world.rev("main"))
    call, words = f"PUT /pulls/{number}/merge", "At least 1 approving review is required"
    github.before = lambda seen: httpx.Response(405, json={"message": words}) if seen == call else None
    with pytest.raises(Retryable, match=f"is not merged by the forge yet: {words}"):
        forge.merge(number, head=forge.get(number).head, message="merge")
    assert 1 <= github.calls.count(call) <= 5


def test_mergeability_is_asked_for_a_few_times_only(world: GitHubWorld, github: GitHub) -> None:
    slept: list[float] = []
    forge = world.forge(sleep=slept.append)
    number = propose(forge, world.rev("main"))
    github.computing = 3
    assert forge.get(number).mergeable
    assert slept == [0.25, 0.5, 1.0]
    world.push({"README.md": "new\n"})
    github.computing = 1000
    with pytest.raises(Retryable, match="still finds out whether pull request 1 merges"):
        forge.get(number)
    assert len(slept) == 8


def test_what_is_closed_or_rebuilt_need_not_be_known_to_merge(
    world: GitHubWorld, github: GitHub, forge: GitHubForge
) -> None:
    github.computing = 1000
    number = propose(forge, world.rev("main"))
    revise(forge, number, world.rev(BRANCH), world.rev("main"), "version: 3\n")
    forge.close(number, reason="superseded")
    assert (github.pulls[number]["state"], github.tip(BRANCH)) == ("closed", "")


# --- its budget -------------------------------------------------------------------------------------------


def test_a_sweep_is_one_call_and_costs_nothing_where_nothing_changed(
    world: GitHubWorld, github: GitHub, forge: GitHubForge
) -> None:
    for n in range(5):
        propose(forge, world.rev("main"), branch=f"trueup/promote/staging/m{n}")
    first = forge.sweep()
    github.calls.clear()
    again = forge.sweep()
    assert github.calls == ["GET /pulls"]
    assert (again.open, again.remaining) == (first.open, first.remaining)
    assert first.remaining == github.remaining
    forge.comment(1, "costs one, and one look")
    assert forge.sweep().remaining == github.remaining < first.remaining


def test_a_budget_that_is_used_up_names_its_end(world: GitHubWorld, github: GitHub, forge: GitHubForge) -> None:
    limits = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "4102444800"}
    answer = httpx.Response(403, json={"message": "API rate limit exceeded"}, headers=limits)
    github.before = lambda call: answer if call == "GET /pulls" else None
    with pytest.raises(Retryable, match=r"met the forge.s rate limit.*not before 2100-01-01"):
        forge.sweep()


# --- what it says -----------------------------------------------------------------------------------------


def test_an_update_that_changes_nothing_writes_nothing(
    world: GitHubWorld, github: GitHub, forge: GitHubForge
) -> None:
    number = propose(forge, world.rev("main"), labels=("trueup", "staging"))
    revise(forge, number, forge.get(number).head, world.rev("main"), "version: 3\n", labels=("staging",))
    before, github.calls[:] = forge.get(number), []
    revise(forge, number, before.head, world.rev("main"), "version: 3\n", labels=("staging",))
    assert forge.get(number) == before
    assert {call for call in github.calls if not call.startswith("GET")} == {"POST /git/trees"}


def test_labels_of_people_stay(world: GitHubWorld, github: GitHub, forge: GitHubForge) -> None:
    def shown() -> list[str]:
        return [label["name"] for label in github.pulls[1]["labels"]]

    github.labels |= {"mine": "A person's."}
    number = propose(forge, world.rev("main"), labels=("trueup", "staging"))
    assert shown() == ["trueup", "staging"]
    github.pulls[1]["labels"].append({"name": "mine", "description": "A person's."})
    revise(forge, number, forge.get(number).head, world.rev("main"), "version: 3\n", labels=("staging",))
    assert shown() == ["mine", "staging"]
    github.pulls[1]["labels"].pop(0)
    revise(forge, number, forge.get(number).head, world.rev("main"), "version: 3\n", labels=())
    assert shown() == []


def test_who_cannot_be_asked_for_a_review_is_named(
    world: GitHubWorld, github: GitHub, forge: GitHubForge
) -> None:
    number = propose(forge, world.rev("main"), reviewers=("Ada", "trueup", "o/reviewers", "nobody"))
    assert [user["login"] for user in github.pulls[number]["requested_reviewers"]] == ["Ada"]
    assert [team["slug"] for team in github.pulls[number]["requested_teams"]] == ["reviewers"]
    assert forge.get(number).comments == (
        "No review could be asked of `nobody`: unknown here, or without access.",
    )


@pytest.mark.parametrize(
    ("opinions", "counts"),
    [
        ([("Ada", "APPROVE")], ["Ada"]),
        ([("Ada", "APPROVE"), ("Ada", "COMMENT")], ["Ada"]),
        ([("Ada", "APPROVE"), ("Ada", "REQUEST_CHANGES")], []),
        ([("Ada", "REQUEST_CHANGES"), ("Ada", "APPROVE"), ("Grace", "COMMENT")], ["Ada"]),
        ([("Mallory", "APPROVE"), ("Grace", "APPROVE")], ["Grace"]),
    ],
)
def test_an_approval_is_the_latest_opinion_of_who_may_write(
    world: GitHubWorld, github: GitHub, forge: GitHubForge, opinions: list[tuple[str, str]], counts: list[str]
) -> None:
    number = propose(forge, world.rev("main"))
    head = forge.get(number).head
    for who, event in opinions:
        review = {"event": event, "commit_id": head, "body": "so"}
        headers = {"Authorization": f"Bearer token-{who.lower()}", "X-GitHub-Api-Version": "2022-11-28"}
        url = f"https://api.github.com/repos/o/r/pulls/{number}/reviews"
        with httpx.Client(transport=httpx.MockTransport(github)) as person:
            assert person.post(url, json=review, headers=headers).status_code == 200
    assert [a.by for a in forge.get(number).approvals] == counts


def test_a_dismissed_approval_does_not_count(world: GitHubWorld, github: GitHub, forge: GitHubForge) -> None:
    number = propose(forge, world.rev("main"))
    ada = world.person()
    ada.approve(number)
    github.reviews[0]["state"] = "DISMISSED"
    assert forge.get(number).approvals == ()
    ada.approve(number)
    assert [a.by for a in forge.get(number).approvals] == ["Ada"]


def test_nobody_approves_their_own(world: GitHubWorld, forge: GitHubForge) -> None:
    number = propose(forge, world.rev("main"))
    with pytest.raises(Terminal, match=r"is by trueup, who cannot approve it\. hint: ask another person"):
        forge.approve(number)


def test_a_fork_is_named_and_its_branch_is_not_ours(
    world: GitHubWorld, github: GitHub, forge: GitHubForge
) -> None:
    number = propose(forge, world.rev("main"))
    for repo in ({"id": 2}, None):
        github.pulls[number]["head"] |= {"repo": repo, "label": f"mallory:{BRANCH}"}
        pull = forge.sweep().open[number]
        assert (pull.branch, pull.ours) == (f"mallory:{BRANCH}", False)
    assert forge.closed(BRANCH) == ()


def test_an_account_that_is_gone_is_a_ghost(world: GitHubWorld, github: GitHub, forge: GitHubForge) -> None:
    number = propose(forge, world.rev("main"))
    github.pulls[number]["user"] = None
    assert forge.sweep().open[number].author == "ghost"


def test_filters_that_are_ignored_are_applied_here(
    world: GitHubWorld, github: GitHub, forge: GitHubForge
) -> None:
    numbers = [propose(forge, world.rev("main"), branch=f"trueup/promote/staging/m{n}") for n in range(3)]
    for number in numbers:
        github.pulls[number]["head"]["label"] = "o:trueup/promote/staging/m1"
        forge.close(number, reason="superseded")
    assert [p.number for p in forge.closed("trueup/promote/staging/m1")] == [numbers[1]]


def test_a_file_that_is_not_there_is_not_deleted(world: GitHubWorld, forge: GitHubForge) -> None:
    files = (
        FileChange(path=PIN, content="version: 2\n"),
        FileChange(path="no/such"),
        FileChange(path="README.md"),
    )
    propose(forge, world.rev("main"), files=files)
    assert git(world.bare, "ls-tree", "-r", "--name-only", BRANCH).splitlines() == [PIN]


def test_a_bodiless_answer_of_a_compare_is_not_taken_for_ours(
    world: GitHubWorld, github: GitHub, forge: GitHubForge
) -> None:
    number = propose(forge, world.rev("main"))
    head = forge.get(number).head
    many = {"total_commits": 101, "ahead_by": 101, "status": "ahead", "commits": []}
    github.before = once(f"GET /compare/main...{head}", lambda: httpx.Response(200, json=many))
    assert not forge.get(number).ours


@pytest.mark.parametrize(
    ("url", "remote", "graphql"),
    [
        ("https://api.github.com", "https://github.com/o/r.git", "https://api.github.com/graphql"),
        (
            "https://git.example.org/api/v3/",
            "https://git.example.org/o/r.git",
            "https://git.example.org/api/graphql",
        ),
    ],
)
def test_where_its_parts_are(url: str, remote: str, graphql: str) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, json={"data": {"viewer": {"login": "trueup"}}})

    forge = GitHubForge(
        url, "o/r", lambda: "t", token_from="$T", clock=Clock(), transport=httpx.MockTransport(answer)
    )
    assert (forge.login, forge.remote, asked) == ("trueup", remote, [graphql])


# --- what requests are checked against --------------------------------------------------------------------

REPOSITORY = "https://api.github.com/repos/o/r"


@pytest.mark.parametrize(
    ("method", "path", "how"),
    [
        ("GET", "/pullz", {}),
        ("DELETE", "/pulls", {}),
        ("GET", "/pulls", {"params": {"limit": 50}}),
        ("GET", "/pulls", {"params": {"per_page": "many"}}),
        ("GET", "/pulls/first", {}),
        ("GET", "/pulls/1", {"json": {"a": 1}}),
        ("POST", "/pulls", {"json": {"title": "no head, no base"}}),
        ("PUT", "/pulls/1/merge", {"json": {"head_commit_id": "Gitea's"}}),
        ("POST", "/check-runs", {"json": {"name": "a", "head_sha": "b", "status": "done"}}),
        ("POST", "/git/trees", {"json": {"tree": [{"path": "a", "mode": "100644", "kind": "blob"}]}}),
    ],
)
def test_a_request_that_github_does_not_know_fails(method: str, path: str, how: dict[str, Any]) -> None:
    request = httpx.Request(method, REPOSITORY + path, headers={"X-GitHub-Api-Version": "2022-11-28"}, **how)
    with pytest.raises((AssertionError, OpenAPIError)):
        github_requests.check(request)
