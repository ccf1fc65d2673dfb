"""The contract of a forge: pull requests that are found by branch, locked by head, and merged for real.

Each test runs on the embedded forge, on GitHub's answers (github_server.py) and, marked ``forge``, on a real
Gitea; the last sections are of one alone.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import git as gitpython
import pytest

from reconciler.adapters.embedded.forge import EmbeddedForge
from reconciler.adapters.git_command import GitCommand, LostRace
from reconciler.core.errors import Retryable, Terminal
from reconciler.core.observed import Check, PullRequest
from reconciler.core.plan import FileChange
from tests.contract.forge_worlds import (
    AT,
    BRANCH,
    MARKER,
    PIN,
    Forge,
    GiteaWorld,
    GitHubWorld,
    World,
    git,
    propose,
    revise,
    soon,
)


@pytest.fixture(params=["embedded", "github", pytest.param("gitea", marks=pytest.mark.forge)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    if request.param == "embedded":
        return World(tmp_path)
    if request.param == "github":
        return GitHubWorld(tmp_path)
    server = request.getfixturevalue("gitea")
    return GiteaWorld(tmp_path, server)


embedded_alone = pytest.mark.parametrize("world", ["embedded"], indirect=True)
"""Of what only that forge has: its refs, a repository that tests may write into, processes to be killed."""


@pytest.fixture
def forge(world: World) -> Forge:
    return world.forge()


# --- open -------------------------------------------------------------------------------------------------


def test_open_commits_on_base_and_is_found_again(world: World, forge: Forge) -> None:
    main = world.rev("main")
    number = propose(
        forge,
        main,
        files=(
            FileChange(path=PIN, content="größer: 2\n"),
            FileChange(path="README.md"),
            FileChange(path="a/b", content=""),
        ),
    )
    (pull,) = forge.sweep().open.values()
    assert (pull.number, pull.state, pull.branch, pull.base) == (number, "open", BRANCH, "main")
    assert (pull.author, pull.ours, pull.mergeable, pull.draft) == ("trueup", True, True, False)
    assert (pull.marker, pull.closed) == (MARKER, None)
    assert not world.clocked or pull.opened == AT
    assert pull.head == world.rev(BRANCH) == world.rev(f"refs/pull/{number}/head")
    assert world.rev(f"{BRANCH}^") == main == world.rev("main")
    assert world.show(f"{BRANCH}:{PIN}") == "größer: 2"
    assert git(world.bare, "ls-tree", "-r", "--name-only", BRANCH).splitlines() == ["a/b", PIN]
    assert git(world.bare, "log", "-1", "--format=%an <%ae> %cn %s", BRANCH) == (
        f"{world.us} trueup Promote digits to staging"
    )
    assert forge.get(number).model_copy(update={"checks": pull.checks}) == pull
    assert PullRequest.model_validate_json(pull.model_dump_json()) == pull
    assert (forge.closed(BRANCH), dict(forge.merged())) == ((), {})


def test_open_adopts_the_open_one_and_changes_nothing(world: World, forge: Forge) -> None:
    number = propose(forge, world.rev("main"))
    before = forge.get(number)
    assert propose(forge, world.rev("main"), "version: 3\n", title="Another") == number
    assert forge.get(number) == before
    assert propose(forge, world.rev("main"), branch="trueup/promote/production/digits") == number + 1


@embedded_alone
def test_numbers_are_read_as_numbers(world: World, forge: Forge) -> None:
    opened = [propose(forge, world.rev("main"), branch=f"trueup/promote/staging/m{n}") for n in range(11)]
    assert opened == list(range(1, 12)) == list(forge.sweep().open)


def test_open_refuses_a_base_that_is_not_on_main(world: World, forge: Forge) -> None:
    elsewhere = world.push({"README.md": "topic\n"}, "topic")
    for base in (elsewhere, "0" * 40):
        with pytest.raises(Retryable, match="is not on the default branch"):
            propose(forge, base)
    assert not forge.sweep().open


@pytest.mark.parametrize("branch", ["main", "topic", "trueup/../main", "-x", "trueup/a b", "trueup/x.lock"])
def test_open_writes_only_to_branches_of_trueup(world: World, forge: Forge, branch: str) -> None:
    main = world.rev("main")
    with pytest.raises(Terminal):
        propose(forge, main, branch=branch)
    assert git(world.bare, "for-each-ref", "--format=%(objectname) %(refname)") == f"{main} refs/heads/main"


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "x\ny", 'a"b', ".git/config"])
def test_open_refuses_paths_outside_the_repository(world: World, forge: Forge, path: str) -> None:
    with pytest.raises(Terminal, match="is not a path inside the repository"):
        propose(forge, world.rev("main"), files=(FileChange(path=path, content="x"),))


def test_open_leaves_a_persons_commits_on_our_branch_alone(world: World, forge: Forge) -> None:
    theirs = world.push({"README.md": "mine\n"}, BRANCH)
    with pytest.raises(Terminal, match="commits that are not trueup's"):
        propose(forge, world.rev("main"))
    assert world.rev(BRANCH) == theirs


# --- update -----------------------------------------------------------------------------------------------


def test_update_rebuilds_on_the_new_base(world: World, forge: Forge) -> None:
    number = propose(forge, world.rev("main"))
    old = forge.get(number)
    main = world.push({"README.md": "new\n"})
    revise(forge, number, old.head, main, "version: 3\n", draft=True)
    new = forge.get(number)
    assert new.head == world.rev(BRANCH) != old.head
    assert soon(lambda: world.rev(f"refs/pull/{number}/head") == new.head)
    assert world.rev(f"{BRANCH}^") == main
    assert world.show(f"{BRANCH}:{PIN}") == "version: 3"
    assert (new.title, new.draft, new.ours, new.opened) == ("Promote digits again", True, True, old.opened)


def test_head_is_a_lock(world: World, forge: Forge) -> None:
    main = world.rev("main")
    number = propose(forge, main)
    judged = forge.get(number).head
    revise(forge, number, judged, main, "version: 3\n")
    moved = forge.get(number)
    with pytest.raises(Retryable, match="moved on"):
        revise(forge, number, judged, main, "version: 4\n")
    with pytest.raises(Retryable, match="moved on"):
        forge.merge(number, head=judged, message="merge")
    assert (forge.get(number), world.rev("main")) == (moved, main)


def test_a_persons_commit_on_our_branch(world: World, forge: Forge) -> None:
    number = propose(forge, world.rev("main"))
    judged = forge.get(number).head
    theirs = world.push({PIN: "version: 9\n"}, BRANCH)
    pull = forge.get(number)
    assert (pull.head, pull.ours, pull.author) == (theirs, False, "trueup")
    assert soon(lambda: forge.sweep().open[number].head == theirs)
    with pytest.raises(Retryable):
        forge.merge(number, head=judged, message="merge")
    with pytest.raises(Terminal, match="not trueup's"):
        revise(forge, number, theirs, world.rev("main"), "version: 2\n")
    assert world.rev(BRANCH) == theirs


@embedded_alone
def test_a_deleted_branch_keeps_its_pull_request(world: World, forge: Forge) -> None:
    number = propose(forge, world.rev("main"))
    head = forge.get(number).head
    git(world.clone, "push", "--quiet", "origin", f":refs/heads/{BRANCH}")
    assert forge.get(number).head == head
    assert forge.merge(number, head=head, message="merge") == world.rev("main")


# --- merge ------------------------------------------------------------------------------------------------


def test_merge_is_a_real_merge_of_the_judged_head(world: World, forge: Forge) -> None:
    number = propose(forge, world.rev("main"))
    head = forge.get(number).head
    main = world.push({"README.md": "meanwhile\n"})
    commit = forge.merge(number, head=head, message="Promote digits to staging\n\ntrueup: yes\n")
    assert world.rev("main") == commit
    assert git(world.bare, "log", "-1", "--format=%P|%an <%ae>|%s|%b", "main") == (
        f"{main} {head}|{world.us}|Promote digits to staging|trueup: yes"
    )
    assert (world.show(f"main:{PIN}"), world.show("main:README.md")) == ("version: 2", "meanwhile")
    (pull,) = forge.closed(BRANCH)
    assert (pull.state, pull.merge_commit, pull.head) == ("merged", commit, head)
    assert pull.closed == AT if world.clocked else pull.closed
    assert (pull.closed_by, pull.closed_by_us, pull.mergeable) == ("trueup", True, False)
    assert dict(forge.merged()) == {commit: number}
    assert not forge.sweep().open
    assert forge.merge(number, head=head, message="again") == commit
    assert world.rev("main") == commit
    assert not git(world.bare, "for-each-ref", f"refs/heads/{BRANCH}")
    assert world.rev(f"refs/pull/{number}/head") == head
    with pytest.raises(Terminal, match="is merged already"):
        forge.close(number, reason="late")


def test_a_branch_is_used_again_after_its_pull_request_ended(world: World, forge: Forge) -> None:
    first = propose(forge, world.rev("main"))
    forge.merge(first, head=forge.get(first).head, message="merge")
    second = propose(forge, world.rev("main"), "version: 3\n")
    forge.close(second, reason="superseded")
    third = propose(forge, world.rev("main"), "version: 4\n")
    world.person().close_as_person(third, "not this one")
    fourth = propose(forge, world.rev("main"), "version: 5\n")
    assert list(forge.sweep().open) == [fourth]
    assert [(p.number, p.state) for p in forge.closed(BRANCH)] == [
        (third, "closed"),
        (second, "closed"),
        (first, "merged"),
    ]
    assert world.show(f"refs/pull/{third}/head:{PIN}") == "version: 4"


def test_conflicts_are_seen_and_refused(world: World, forge: Forge) -> None:
    number = propose(forge, world.rev("main"))
    pull = forge.get(number)
    main = world.push({PIN: "version: by hand\n"})
    assert (pull.mergeable, forge.get(number).mergeable) == (True, False)
    with pytest.raises(Terminal, match=r"conflicts with main.* hint: rebuild it on main"):
        forge.merge(number, head=pull.head, message="merge")
    assert world.rev("main") == main
    revise(forge, number, pull.head, main, "version: 2\n")
    assert forge.get(number).mergeable
    assert soon(lambda: forge.sweep().open[number].mergeable)


@embedded_alone
def test_unrelated_history_is_not_mergeable_and_hides_nobody_else(world: World, forge: Forge) -> None:
    tree = world.rev("main^{tree}")
    root = git(world.bare, "commit-tree", tree, "-m", "root")
    git(world.bare, "update-ref", "refs/heads/orphan", root)
    orphan = forge.open_as_person("orphan", "from nowhere", "")
    number = propose(forge, world.rev("main"))
    assert {n: p.mergeable for n, p in forge.sweep().open.items()} == {orphan: False, number: True}


def test_a_draft_that_is_made_ready_keeps_its_head_and_its_approvals(world: World, forge: Forge) -> None:
    number = propose(forge, world.rev("main"), draft=True)
    head = forge.get(number).head
    world.person().approve(number)
    with pytest.raises(Retryable):
        forge.ready(number, head="0" * 40)
    forge.ready(number, head=head)
    forge.ready(number, head=head)
    pull = forge.get(number)
    assert (pull.draft, pull.head, [a.head for a in pull.approvals]) == (False, head, [head])


def test_a_draft_is_not_merged(world: World, forge: Forge) -> None:
    number = propose(forge, world.rev("main"), draft=True)
    with pytest.raises(Terminal, match="is a draft"):
        forge.merge(number, head=forge.get(number).head, message="merge")


@embedded_alone
def test_main_that_moves_during_the_merge(world: World, forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    number = propose(forge, world.rev("main"))
    pushed: list[str] = []
    commit_tree = GitCommand.commit_tree

    def slow(self: GitCommand, *arguments: Any) -> str:
        made = commit_tree(self, *arguments)
        if not pushed:
            pushed.append(world.push({"README.md": "in between\n"}))
        return made

    monkeypatch.setattr(GitCommand, "commit_tree", slow)
    commit = forge.merge(number, head=forge.get(number).head, message="merge")
    assert world.rev("main") == commit
    assert world.rev("main^1") == pushed[0]


def test_two_merges_at_once_make_one_commit(world: World, forge: Forge) -> None:
    before = world.rev("main")
    number = propose(forge, before)
    head = forge.get(number).head
    seconds = count()
    forges = [world.forge(clock=lambda: AT + timedelta(seconds=next(seconds))) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        commits = set(pool.map(lambda f: f.merge(number, head=head, message="merge"), forges))
    assert commits == {world.rev("main")}
    assert git(world.bare, "rev-list", "--first-parent", f"{before}..main").splitlines() == [world.rev("main")]


# --- what people do with plain Git ------------------------------------------------------------------------


@embedded_alone
def test_a_merge_that_was_pushed_counts(world: World, forge: Forge) -> None:
    number = propose(forge, world.rev("main"))
    head = forge.get(number).head
    world.push({"README.md": "before\n"})
    git(world.clone, "fetch", "--quiet", "origin")
    git(world.clone, "merge", "--quiet", "--no-ff", "-m", "by hand", head)
    git(world.clone, "push", "--quiet", "origin", "HEAD:main")
    landed = world.rev("main")
    world.push({"README.md": "after\n"})
    assert not forge.sweep().open
    again = propose(forge, world.rev("main"), "version: 3\n")
    assert list(forge.sweep().open) == [again]
    assert dict(forge.merged()) == {landed: number}
    (pull,) = forge.closed(BRANCH)
    assert (pull.state, pull.closed_by, pull.closed_by_us, pull.head) == ("merged", "Ada", False, head)


@embedded_alone
def test_a_fast_forward_counts_and_a_branch_set_back_does_not(world: World, forge: Forge) -> None:
    number = propose(forge, world.rev("main"))
    back = propose(forge, world.rev("main"), branch="trueup/promote/staging/other")
    head = forge.get(number).head
    git(world.bare, "update-ref", "refs/heads/trueup/promote/staging/other", world.rev("main"))
    git(world.bare, "update-ref", "refs/heads/main", head)
    assert list(forge.sweep().open) == [back]
    assert dict(forge.merged()) == {head: number}
    assert (forge.get(number).closed_by, forge.get(number).closed_by_us) == ("", False)


def test_a_hand_made_pull_request(world: World, forge: Forge) -> None:
    ada = world.person()
    head = world.push({PIN: "version: 7\n"}, "fix/pin")
    number = ada.open_as_person("fix/pin", "Pin seven", f"I say so.\n\n{MARKER}")
    pull = forge.sweep().open[number]
    assert (pull.author, pull.ours, pull.head, pull.branch) == ("Ada", False, head, "fix/pin")
    assert pull.marker is None
    assert ada.open_as_person("fix/pin", "Again", "") == number
    commit = ada.merge_as_person(number)
    assert ada.merge_as_person(number) == commit == world.rev("main")
    assert git(world.bare, "log", "-1", "--format=%an|%ae|%s|%b", "main") == (
        f"Ada|ada@example.org|Merge pull request #{number} from fix/pin|Pin seven"
    )
    assert (forge.get(number).closed_by, forge.get(number).closed_by_us) == ("Ada", False)
    assert world.rev("fix/pin") == head
    for branch in ("fix/pin", "main", "absent"):
        with pytest.raises(Terminal, match="brings nothing to merge"):
            ada.open_as_person(branch, "Nothing", "")


def test_a_person_proposes_files_without_a_checkout(world: World, forge: Forge) -> None:
    ada, main = world.person(), world.rev("main")
    order: dict[str, Any] = {
        "branch": "hold/staging/digits",
        "base": main,
        "title": "Hold it",
        "body": "an audit",
    }
    files = (FileChange(path="environments/staging/exceptions/digits.yaml", content="holds: []\n"),)
    number = ada.propose_as_person(files=files, **order)
    pull = forge.get(number)
    assert (pull.author, pull.ours, pull.branch, pull.base) == ("Ada", False, "hold/staging/digits", "main")
    assert (pull.title, pull.body.strip(), pull.mergeable, pull.marker) == ("Hold it", "an audit", True, None)
    assert world.show("hold/staging/digits:environments/staging/exceptions/digits.yaml") == "holds: []"
    assert git(world.bare, "log", "-1", "--format=%an|%ae|%P", pull.head) == f"Ada|ada@example.org|{main}"
    assert ada.propose_as_person(files=files, **order) == number
    ada.merge_as_person(number)
    assert world.show("main:environments/staging/exceptions/digits.yaml") == "holds: []"


def test_a_person_writes_to_nobodys_branch_but_their_own(world: World) -> None:
    ada, main = world.person(), world.rev("main")
    order: dict[str, Any] = {"base": main, "title": "Mine", "body": ""}
    files = (FileChange(path="README.md", content="mine\n"),)
    with pytest.raises(Terminal, match="is trueup's"):
        ada.propose_as_person(branch=BRANCH, files=files, **order)
    head = world.push({"README.md": "Grace's\n"}, "hold/staging/digits", who="Grace")
    with pytest.raises(Terminal, match="has commits that are not Ada's"):
        ada.propose_as_person(branch="hold/staging/digits", files=files, **order)
    assert world.rev("hold/staging/digits") == head
    assert not world.forge().sweep().open


def test_a_branch_that_a_closed_pull_request_left_is_in_nobodys_way(world: World, forge: Forge) -> None:
    ada, grace, main = world.person(), world.person("Grace"), world.rev("main")
    order: dict[str, Any] = {"branch": "hold/staging/digits", "base": main, "body": ""}
    path = "environments/staging/exceptions/digits.yaml"
    first = grace.propose_as_person(files=(FileChange(path=path, content="a: 1\n"),), title="Grace's", **order)
    grace.close_as_person(first, "not this way")
    second = ada.propose_as_person(files=(FileChange(path=path, content="b: 2\n"),), title="Ada's", **order)
    assert second != first
    pull = forge.get(second)
    assert (pull.author, pull.title, pull.mergeable) == ("Ada", "Ada's", True)
    assert world.show(f"hold/staging/digits:{path}") == "b: 2"
    assert forge.get(first).state == "closed"


def test_what_was_merged_says_whose_it_is(world: World, forge: Forge) -> None:
    """Who opened, approved and merged it: whether a waiver is of another than who made the version."""
    ada, grace = world.person(), world.person("Grace")
    path = "environments/staging/exceptions/digits.yaml"
    files = (FileChange(path=path, content="waivers: []\n"),)
    order = {
        "branch": "waive/staging/digits/accuracy",
        "base": world.rev("main"),
        "title": "Waive it",
        "body": "",
    }
    number = ada.propose_as_person(files=files, **order)
    grace.approve(number)
    commit = ada.merge_as_person(number)
    assert forge.merged()[commit] == number
    pull = forge.get(number)
    assert (pull.author, pull.closed_by) == ("Ada", "Ada")
    assert {a.by for a in pull.approvals if a.head == pull.head} == {"Grace"}


# --- approvals, comments, closing -------------------------------------------------------------------------


def test_approvals_carry_the_head(world: World, forge: Forge) -> None:
    main = world.rev("main")
    number = propose(forge, main)
    ada, grace = world.person(), world.person("Grace")
    first = ada.approve(number)
    assert ada.approve(number) == first
    assert grace.approve(number) == first
    assert sorted((a.by, a.head) for a in forge.get(number).approvals) == [("Ada", first), ("Grace", first)]
    revise(forge, number, first, main, "version: 3\n")
    second = ada.approve(number)
    given = forge.get(number).approvals
    assert {(a.by, a.head) for a in given} >= {("Grace", first), ("Ada", second)}
    assert [a.by for a in given if a.head == second] == ["Ada"]
    assert not world.clocked or {a.at for a in given} == {AT}
    theirs = world.push({"README.md": "more\n"}, BRANCH)
    assert ada.approve(number) == theirs
    ada.close_as_person(number, "no")
    with pytest.raises(Terminal, match="is closed already"):
        ada.approve(number)


@embedded_alone
def test_an_approval_is_of_the_head_that_was_seen(
    world: World, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = propose(forge, world.rev("main"))
    pushed: list[str] = []
    commit = GitCommand.commit

    def slow(self: GitCommand, *arguments: Any) -> str:
        if not pushed:
            pushed.append(world.push({"README.md": "slipped in\n"}, BRANCH))
        return commit(self, *arguments)

    monkeypatch.setattr(GitCommand, "commit", slow)
    approved = forge.approve(number)
    assert [a.head for a in forge.get(number).approvals] == [approved] == pushed


def test_comments_survive_concurrency_and_closing(world: World, forge: Forge) -> None:
    number = propose(forge, world.rev("main"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: world.forge().comment(number, f"note {n}\n<b>"), range(8)))
    forge.close(number, reason="superseded by version 3")
    forge.comment(number, "told")
    *notes, reason, told = forge.get(number).comments
    assert sorted(notes) == [f"note {n}\n<b>" for n in range(8)]
    assert (reason, told) == ("superseded by version 3", "told")


def test_a_kept_comment_is_one_and_only_ours_is_changed(world: World, forge: Forge) -> None:
    number = propose(forge, world.rev("main"))
    mark = "<!-- trueup-plan -->"
    world.person().comment(number, f"mine\n\n{mark}") if not world.clocked else None
    forge.comment(number, f"not at its end: {mark} here")
    before = forge.get(number).comments
    assert forge.keep_comment(number, "**one**\n- <b>\n", mark=mark)
    assert not forge.keep_comment(number, "**one**\n- <b>", mark=mark)
    assert forge.get(number).comments == (*before, f"**one**\n- <b>\n\n{mark}")
    forge.comment(number, "after it")
    assert forge.keep_comment(number, "two", mark=mark)
    assert forge.get(number).comments == (*before, f"two\n\n{mark}", "after it")
    with pytest.raises(Terminal, match="there is no pull request 7"):
        forge.keep_comment(7, "one", mark=mark)


@pytest.mark.parametrize("by_us", [True, False])
def test_who_closed_it_is_recorded(world: World, forge: Forge, by_us: bool) -> None:
    number = propose(forge, world.rev("main"))
    for _ in range(2):
        if by_us:
            forge.close(number, reason="superseded")
        else:
            world.person().close_as_person(number, "superseded")
    (pull,) = forge.closed(BRANCH)
    assert (pull.state, pull.closed_by_us) == ("closed", by_us)
    assert pull.closed == AT if world.clocked else pull.closed
    assert pull.closed_by == ("trueup" if by_us else "Ada")
    assert forge.get(number).comments == ("superseded",)
    with pytest.raises(Terminal, match="is closed already"):
        forge.merge(number, head=pull.head, message="merge")


def test_unknown_numbers_are_terminal(world: World, forge: Forge) -> None:
    ada = world.person()
    calls = (forge.get, forge.difference, ada.approve, ada.merge_as_person, lambda n: forge.comment(n, "x"))
    for call in calls:
        with pytest.raises(Terminal, match="there is no pull request 7"):
            call(7)


# --- what it changes, and what is shown beside it ---------------------------------------------------------


def test_the_difference_is_from_where_its_branch_left_main(world: World, forge: Forge) -> None:
    evidence = FileChange(path="environments/staging/releases/digits.evidence.json", content="{}\n")
    files = (FileChange(path=PIN, content="version: 2\n"), evidence)
    number = propose(forge, world.rev("main"), files=files)
    world.push({"README.md": "meanwhile\n"})
    shown = forge.difference(number)
    assert shown.splitlines()[:1] == [f"diff --git a/{PIN} b/{PIN}"]
    assert shown.splitlines()[-3:] == ["@@ -1 +1 @@", "-version: 1", "+version: 2"]
    assert "evidence" not in shown
    forge.merge(number, head=forge.get(number).head, message="merge")
    assert forge.difference(number) == shown


def test_checks_are_of_the_head_that_was_judged(world: World, forge: Forge) -> None:
    number = propose(forge, world.rev("main"))
    head = forge.get(number).head
    checks = (
        Check(name="gate/accuracy", state="success", summary="0.97 >= 0.9"),
        Check(name="trueup/admission", state="pending"),
    )
    forge.publish(number, head=head, checks=checks)
    forge.publish(number, head=head, checks=(Check(name="trueup/admission", state="failure", summary="no"),))
    shown = forge.get(number).checks
    if shown is not None:
        assert shown == (checks[0], Check(name="trueup/admission", state="failure", summary="no"))
        with pytest.raises(Retryable, match="moved on"):
            forge.publish(number, head="0" * 40, checks=checks)
    assert forge.sweep().open[number].checks is None


# --- concurrency and death --------------------------------------------------------------------------------


def test_threads_that_open_one_branch_make_one_pull_request(world: World) -> None:
    main = world.rev("main")
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda n: propose(world.forge(), main, f"version: {n}\n"), range(8)))
    assert numbers == [1] * 8
    assert list(world.forge().sweep().open) == [1]
    assert world.forge().get(1).head == world.rev(BRANCH)


def _open_two(world: World, main: str, n: int, numbers: Any) -> None:
    forge = world.forge()
    own = propose(forge, main, branch=f"trueup/promote/staging/m{n}")
    numbers.put((propose(forge, main, f"version: {n}\n"), own))


@embedded_alone
def test_processes_that_open_one_branch_make_one_pull_request(world: World) -> None:
    main = world.rev("main")
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    children = [fork.Process(target=_open_two, args=(world, main, n, answers)) for n in range(8)]
    for child in children:
        child.start()
    numbers = [answers.get(timeout=30) for _ in children]
    for child in children:
        child.join(30)
    (shared,) = {number for number, _ in numbers}
    assert (
        sorted([shared, *(own for _, own in numbers)]) == list(range(1, 10)) == list(world.forge().sweep().open)
    )


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from reconciler.adapters.embedded.forge import EmbeddedForge
from reconciler.adapters.git_command import GitCommand
from reconciler.core.plan import FileChange
repository, base, step, when = sys.argv[1:]
original = getattr(GitCommand, step)
def dies(self, *arguments):
    if when == "after":
        original(self, *arguments)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(GitCommand, step, dies)
forge = EmbeddedForge(Path(repository), "Ada", lambda: datetime(2026, 3, 1, 12, tzinfo=UTC))
files = (FileChange(path="a", content="b"),)
wish = dict(title="t", body="b", files=files, draft=False, labels=())
forge.open(branch="trueup/promote/staging/digits", base=base, **wish)
"""


@embedded_alone
@pytest.mark.parametrize(("step", "when"), [("commit", "after"), ("swap", "before"), ("swap", "after")])
def test_open_after_a_kill_makes_exactly_one(world: World, forge: Forge, step: str, when: str) -> None:
    main = world.rev("main")
    command = [sys.executable, "-c", KILLED, str(world.bare), main, step, when]
    assert subprocess.run(command, check=False, timeout=60).returncode == -9
    assert len(forge.sweep().open) == (when == "after" and step == "swap")
    number = propose(forge, main)
    assert (propose(forge, main), list(forge.sweep().open)) == (number, [number])
    assert world.rev(BRANCH) == forge.get(number).head


@contextmanager
def cut_off(monkeypatch: pytest.MonkeyPatch, after: int) -> Iterator[None]:
    """A transaction that changes only its first ``after`` refs, as when Git itself is killed."""
    swap = GitCommand.swap

    def partly(self: GitCommand, swaps: Iterator[Any]) -> None:
        swap(self, list(swaps)[:after])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(GitCommand, "swap", partly)
        with pytest.raises(KeyboardInterrupt):
            yield


@embedded_alone
@pytest.mark.parametrize("after", range(5))
def test_open_after_half_a_transaction(
    world: World, forge: Forge, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    main = world.rev("main")
    with cut_off(monkeypatch, after):
        propose(forge, main)
    number = propose(forge, main)
    assert list(forge.sweep().open) == [number]
    assert forge.get(number).head == world.rev(BRANCH)
    assert propose(forge, main, branch="trueup/promote/staging/other") == number + 1


@embedded_alone
@pytest.mark.parametrize("after", range(5))
def test_merge_after_half_a_transaction(
    world: World, forge: Forge, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    before = world.rev("main")
    number = propose(forge, before)
    head = forge.get(number).head
    with cut_off(monkeypatch, after):
        forge.merge(number, head=head, message="merge")
    commit = forge.merge(number, head=head, message="merge")
    assert git(world.bare, "rev-list", "--first-parent", f"{before}..main").splitlines() == [commit]
    assert dict(forge.merged()) == {commit: number}
    assert forge.get(number).closed_by_us


# --- of the embedded forge alone --------------------------------------------------------------------------


@embedded_alone
def test_a_sweep_is_few_processes_and_writes_nothing(
    world: World, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = world.rev("main")
    for n in range(6):
        propose(forge, main, f"version: {n}\n", branch=f"trueup/promote/staging/m{n}")
    for n in (1, 2):
        forge.close(n, reason="superseded")
    started: list[str] = []
    execute: Any = gitpython.Git.execute

    def counted(self: gitpython.Git, command: list[str], **options: object) -> object:
        started.append(next(part for part in command[1:] if part[0] != "-" and "=" not in part))
        return execute(self, command, **options)

    before = sorted(p for p in world.bare.rglob("*"))
    monkeypatch.setattr(gitpython.Git, "execute", counted)
    fresh = world.forge()
    assert len(fresh.sweep().open) == 4
    assert started == ["for-each-ref", "cat-file", "rev-list", *["merge-tree"] * 4]
    started.clear()
    assert len(fresh.sweep().open) == 4
    assert started == ["for-each-ref", "rev-list"]
    assert sorted(p for p in world.bare.rglob("*")) == before


@embedded_alone
def test_every_event_is_a_commit_by_who_caused_it(world: World, forge: Forge) -> None:
    number = propose(forge, world.rev("main"))
    forge.approve(number)
    forge.merge(number, head=forge.get(number).head, message="merge")
    log = git(world.bare, "log", "--format=%an: %s", f"refs/trueup/pulls/{number}")
    assert log.splitlines() == ["trueup: merge 1", "Ada: approve 1", "trueup: open 1"]
    assert git(world.bare, "fsck", "--strict", "--no-dangling") == ""


@embedded_alone
def test_a_ref_that_stays_locked_is_retryable(
    world: World, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.adapters.embedded.forge._TURNS", 2)
    number = propose(forge, world.rev("main"))
    (world.bare / f"refs/trueup/pulls/{number}.lock").touch()
    with pytest.raises(Retryable, match=r"hint: if no Git process runs, remove the \.lock file") as told:
        forge.comment(number, "x")
    assert not isinstance(told.value, LostRace)


@embedded_alone
@pytest.mark.parametrize("person", ["trueup", "Ada <trueup@localhost>", "", "  ", "a\nb", "<x@y>"])
def test_nobody_acts_as_trueup_or_as_nobody(world: World, person: str) -> None:
    forge = world.forge(person)
    number = propose(forge, world.rev("main"))
    before = forge.get(number)
    acts: list[Callable[[], object]] = [
        lambda: forge.approve(number),
        lambda: forge.merge_as_person(number),
        lambda: forge.close_as_person(number, "no"),
        lambda: forge.open_as_person(BRANCH, "mine", ""),
        lambda: forge.propose_as_person(branch="x", base=world.rev("main"), title="x", body="", files=()),
    ]
    for act in acts:
        with pytest.raises(Terminal, match="git config"):
            act()
    assert forge.get(number) == before


@embedded_alone
@pytest.mark.parametrize("where", ["https://example.org/a.git", "git@example.org:a.git", "absent", "clone"])
def test_only_a_local_bare_repository_will_do(world: World, tmp_path: Path, where: str) -> None:
    path = Path(where) if ":" in where else tmp_path / where
    with pytest.raises(Terminal, match="hint: name a bare repository on this machine"):
        EmbeddedForge(path, "Ada", lambda: AT)


@embedded_alone
def test_an_empty_repository_and_an_unreadable_record(world: World, forge: Forge, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--bare", str(tmp_path / "empty.git"))
    with pytest.raises(Terminal, match="hint: push a first commit"):
        EmbeddedForge(tmp_path / "empty.git", "Ada", lambda: AT).sweep()
    git(world.bare, "update-ref", "refs/trueup/pulls/1", "main")
    with pytest.raises(Terminal, match="record cannot be read"):
        forge.sweep()
