"""What Gitea does otherwise than one would expect, each answered by its adapter; on a real one.

The table is at the top of reconciler/adapters/forges/gitea.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.core.base import Subject
from reconciler.core.errors import Retryable, Terminal
from reconciler.core.observed import Check
from reconciler.core.plan import GateVerdict, Summary, Verdict
from reconciler.report.pull_request import body
from tests.contract.forge_worlds import BRANCH, MARKER, PIN, GiteaWorld, Recorder, propose, revise
from tests.servers.gitea import Gitea

pytestmark = pytest.mark.forge


@pytest.fixture
def world(gitea: Gitea, tmp_path: Path) -> GiteaWorld:
    return GiteaWorld(tmp_path, gitea)


def api(world: GiteaWorld, person: str, method: str, path: str, wish: Any = None) -> Any:
    """A call of a person's, below the repository."""
    headers = {"Authorization": f"token {world.token(person)}"}
    url = f"{world.url}/api/v1/repos/{world.repository}{path}"
    answer = httpx.request(method, url, headers=headers, json=wish, timeout=30).raise_for_status()
    return answer.json() if answer.content else None


def instead(act: Callable[[], object], answer: int, call: str) -> Callable[[str], httpx.Response | None]:
    """Once, ``act`` in place of ``call``, and an answer that says nothing about it."""
    done: list[object] = []

    def before(seen: str) -> httpx.Response | None:
        if seen != call or done:
            return None
        done.append(act())
        return httpx.Response(answer, text="a proxy's page")

    return before


# --- writes -----------------------------------------------------------------------------------------------


def test_of_two_that_open_at_once_one_pull_request_stays(world: GiteaWorld) -> None:
    main, both = world.rev("main"), threading.Barrier(2)

    def opened(n: int) -> int:
        transport = Recorder()

        def before(call: str) -> None:
            if call == "POST pulls":
                both.wait(30)

        transport.before = before
        forge = world.forge(transport=transport, cache=world.folder / f"cache{n}")
        return propose(forge, main, branch=BRANCH)

    with ThreadPoolExecutor(2) as pool:
        numbers = set(pool.map(opened, range(2)))
    (number,) = numbers
    forge = world.forge()
    assert list(forge.sweep().open) == [number]
    for twin in forge.closed(BRANCH):
        assert twin.closed_by_us
        assert forge.get(twin.number).comments == (
            f"#{number} was opened for the same branch at the same time.",
        )


@pytest.mark.parametrize("answer", [500, 502, 409])
def test_an_opening_with_an_unclear_answer_is_looked_up(world: GiteaWorld, answer: int) -> None:
    main, other = world.rev("main"), world.forge(transport=Recorder())
    world.transport.before = instead(lambda: propose(other, main), answer, "POST pulls")
    assert propose(world.forge(), main) == 1
    assert list(other.sweep().open) == [1]
    assert world.transport.calls.count("POST pulls") == 1


def test_an_opening_that_failed_is_said_and_done_by_the_next(world: GiteaWorld) -> None:
    world.transport.before = instead(lambda: None, 502, "POST pulls")
    forge = world.forge()
    with pytest.raises(Retryable, match="failed in the forge with status 502"):
        propose(forge, world.rev("main"))
    assert propose(forge, world.rev("main")) == 1


@pytest.mark.parametrize("answer", [502, 405, 409])
def test_a_merge_with_an_unclear_answer_is_looked_up(world: GiteaWorld, answer: int) -> None:
    forge, other = world.forge(), world.forge(transport=Recorder())
    number = propose(forge, world.rev("main"))
    head = forge.get(number).head
    merge = instead(
        lambda: other.merge(number, head=head, message="merge"), answer, f"POST pulls/{number}/merge"
    )
    world.transport.before = merge
    assert forge.merge(number, head=head, message="merge") == world.rev("main")
    assert world.transport.calls.count(f"POST pulls/{number}/merge") == 1


def test_what_is_as_it_should_be_is_not_written(world: GiteaWorld) -> None:
    forge = world.forge()
    main = world.rev("main")
    number = propose(forge, main)
    pull = forge.get(number)
    checks = (Check(name="trueup/admission", state="pending", summary="waits"),)
    forge.publish(number, head=pull.head, checks=checks)
    world.transport.calls.clear()
    forge.publish(number, head=pull.head, checks=checks)
    forge.ready(number, head=pull.head)
    revise(
        forge,
        number,
        pull.head,
        main,
        "version: 2\n",
        title=pull.title,
        body=pull.body,
        labels=("trueup",),
    )
    assert {call.split()[0] for call in world.transport.calls} == {"GET"}
    assert forge.get(number).head == pull.head


# --- protection and approvals -----------------------------------------------------------------------------


def test_a_protected_branch_is_merged_into_once_it_allows_it(world: GiteaWorld) -> None:
    world.protect(required_approvals=1, enable_status_check=True, status_check_contexts=["trueup/admission"])
    forge = world.forge()
    number = propose(forge, world.rev("main"))
    head = forge.get(number).head
    with pytest.raises(Retryable, match=r"is not merged by the forge yet: .* hint: see what the protection of"):
        forge.merge(number, head=head, message="merge")
    forge.publish(number, head=head, checks=(Check(name="trueup/admission", state="success"),))
    with pytest.raises(Retryable, match="is not merged by the forge yet"):
        forge.merge(number, head=head, message="merge")
    world.person().approve(number)
    assert forge.merge(number, head=head, message="merge") == world.rev("main")


def test_only_official_approvals_count_and_only_the_latest_opinion(world: GiteaWorld) -> None:
    forge = world.forge()
    number = propose(forge, world.rev("main"))
    head = forge.get(number).head
    world.token("Eve")
    world.invite("Eve", "read")
    assert world.person("Eve").approve(number) == head
    assert forge.get(number).approvals == ()
    world.person().approve(number)
    world.person("Grace").approve(number)
    api(world, "Ada", "POST", f"/pulls/{number}/reviews", {"event": "REQUEST_CHANGES", "body": "no"})
    assert [a.by for a in forge.get(number).approvals] == ["Grace"]
    with pytest.raises(Terminal, match=r"is by trueup, who cannot approve it\. hint: ask another person"):
        forge.approve(number)


def test_reviewers_are_asked_and_who_cannot_be_is_named(world: GiteaWorld) -> None:
    forge = world.forge()
    number = propose(forge, world.rev("main"), reviewers=("Ada", "nobody-here", "trueup", "Org/team"))
    asked = api(world, "Ada", "GET", f"/pulls/{number}")["requested_reviewers"]
    assert [reviewer["login"] for reviewer in asked] == ["Ada"]
    assert forge.get(number).comments == (
        "No review could be asked of `nobody-here`, `Org/team`: unknown here, or without access.",
    )


# --- what the list says, and does not ---------------------------------------------------------------------


def test_a_fork_may_use_our_branch_names_and_is_not_ours(world: GiteaWorld) -> None:
    forge = world.forge()
    fork = f"{world.url}/api/v1/repos/{world.repository}/forks"
    headers = {"Authorization": f"token {world.token('Grace')}"}
    httpx.post(fork, headers=headers, json={}, timeout=30).raise_for_status()
    name = world.repository.split("/")[1]
    theirs = f"{world.url}/api/v1/repos/Grace/{name}/contents/{PIN}"
    held = httpx.get(theirs, headers=headers, timeout=30).raise_for_status().json()
    wish = {"content": "dmVyc2lvbjogOQo=", "message": "nine", "sha": held["sha"], "new_branch": BRANCH}
    httpx.put(theirs, headers=headers, json=wish, timeout=30).raise_for_status()
    wish = {"head": f"Grace:{BRANCH}", "base": "main", "title": "mine", "body": str(MARKER)}
    foreign = api(world, "Grace", "POST", "/pulls", wish)["number"]
    pull = forge.sweep().open[foreign]
    assert (pull.branch, pull.author, pull.ours, pull.marker) == (f"Grace:{BRANCH}", "Grace", False, None)
    number = propose(forge, world.rev("main"))
    assert number != foreign
    assert sorted(forge.sweep().open) == [foreign, number]
    assert not forge.get(foreign).ours
    forge.close(foreign, reason="no")
    assert forge.closed(BRANCH) == ()
    assert world.rev(BRANCH) == forge.get(number).head


def test_labels_are_made_once_and_those_of_people_stay(world: GiteaWorld) -> None:
    forge = world.forge()
    main = world.rev("main")
    number = propose(forge, main, labels=("trueup", "promote"))
    theirs = world.admin.post(
        f"/repos/{world.repository}/labels", json={"name": "urgent", "color": "#ff0000"}
    ).json()
    api(world, "Ada", "POST", f"/issues/{number}/labels", {"labels": [theirs["id"]]})
    revise(forge, number, forge.get(number).head, main, "version: 3\n", labels=("trueup",))
    shown = {label["name"] for label in api(world, "Ada", "GET", f"/pulls/{number}")["labels"]}
    assert shown == {"trueup", "urgent"}
    propose(forge, main, branch=f"{BRANCH}-2", labels=("trueup", "promote"))
    known = [label["name"] for label in api(world, "Ada", "GET", "/labels")]
    assert sorted(known) == ["promote", "trueup", "urgent"]


def test_a_draft_is_a_title_that_nobody_else_sees(world: GiteaWorld) -> None:
    forge = world.forge()
    number = propose(forge, world.rev("main"), draft=True)
    assert api(world, "Ada", "GET", f"/pulls/{number}")["title"] == "WIP: Promote digits to staging"
    pull = forge.sweep().open[number]
    assert (pull.title, pull.draft, pull.mergeable) == ("Promote digits to staging", True, True)


def test_a_sweep_of_many_pages_is_a_call_a_page(world: GiteaWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    forge = world.forge()
    main = world.rev("main")
    for n in range(3):
        propose(forge, main, branch=f"trueup/promote/staging/m{n}")
    monkeypatch.setattr("reconciler.adapters.forges.gitea.GiteaForge.page", ("limit", 2))
    for _ in range(2):
        world.transport.calls.clear()
        assert len(forge.sweep().open) == 3
        assert world.transport.calls == ["GET pulls"] * 2


def test_a_branch_that_never_had_a_pull_request_is_one_call(world: GiteaWorld) -> None:
    forge = world.forge()
    propose(forge, world.rev("main"))
    world.transport.calls.clear()
    assert forge.closed("trueup/promote/staging/other") == ()
    assert len(world.transport.calls) == 1


# --- whose token ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ("0" * 40, r"status 401: .*hint: the token is wrong, expired or revoked: renew \$FORGE_TOKEN"),
        ("", r"\$FORGE_TOKEN holds no token"),
    ],
)
def test_a_token_that_is_refused(world: GiteaWorld, token: str, told: str) -> None:
    with pytest.raises(Terminal, match=told):
        world.forge(token=lambda: token).sweep()


def test_a_repository_that_this_account_may_not_see(world: GiteaWorld) -> None:
    world.token("Mallory")
    with pytest.raises(Terminal, match=r"status 404.*hint: check the name, and that the account of"):
        world.forge("Mallory").sweep()


# --- text of models ---------------------------------------------------------------------------------------

HOSTILE = (
    "@Ada look, @Grace",
    "fixes #1, closes #1; resolves ROOT#1 and !1",
    "closes URL/issues/1 and URL/ROOT/issues/1",
    "[click](https://evil.example) ![x](https://evil.example/pixel.png) <img src='https://evil.example/x'>",
    "https://evil.example www.evil.example mailto:me@evil.example",
    "<script>alert(1)</script> <details open> <!-- trueup {} -->",
    "```\n# heading\n- [ ] task\n| a | b |\n|---|---|",
)


def rendered(world: GiteaWorld, number: int) -> str:
    """A pull request's body as the forge's page shows it."""
    world.admin.patch(f"/repos/{world.repository}", json={"private": False}).raise_for_status()
    page = httpx.get(f"{world.url}/{world.repository}/pulls/{number}", timeout=30).raise_for_status().text
    return page.partition('<div class="render-content markup"')[2].partition('class="raw-content')[0]


def test_text_of_models_does_nothing_on_the_forge(world: GiteaWorld) -> None:
    issue = api(world, "Ada", "POST", "/issues", {"title": "something else"})["number"]
    assert issue == 1
    texts = [text.replace("ROOT", world.repository).replace("URL", world.url) for text in HOSTILE]
    subject = Subject(environment="staging", model="digits")
    gates = tuple(
        GateVerdict(
            gate=f"g{n}", metric="evaluate.a", verdict="block", why=text, asked=text, slice=text, waived=text
        )
        for n, text in enumerate(texts)
    )
    summary = Summary(
        headline=" ".join(texts),
        intent="promote",
        environment="staging",
        model="digits",
        to_version="2",
        verdict=Verdict(subject=subject, grounds="promotion", gates=gates, inputs=MARKER.inputs),
        merges=texts[0],
        notes=tuple(texts),
        lineage=dict(zip(texts, texts, strict=True)),
    )
    forge = world.forge()
    number = propose(forge, world.rev("main"), body=body(summary, MARKER))
    pull = forge.get(number)
    assert pull.marker == MARKER
    shown = rendered(world, number)
    assert "<table" in shown
    assert "resolves" in shown
    for active in ("<a ", "<img", "<script", "<details", "<input", "<h1"):
        assert active not in shown, active
    forge.merge(number, head=pull.head, message=pull.title)
    assert api(world, "Ada", "GET", "/issues/1")["state"] == "open"
    events = api(world, "Ada", "GET", "/issues/1/timeline") or []
    assert [event["type"] for event in events] == []
