"""Pull requests without a server: refs in the bare repository that people push to.

The ports ForgeReader, ForgeWriter and ForgePerson on one machine, for trying out, development and tests.
A merge is a real merge and a head lock is a real lock, but an identity is only what ``git config`` says: its
approvals show the flow and secure nothing.

====================================  ================================================================
``refs/heads/BRANCH``                 the head, moved by us and by anyone who pushes
``refs/pull/N/head``                  the head at the last write here; keeps a closed one's commits
``refs/trueup/pulls/N``               commits of ``pull.json``, one an event, by whoever caused it
``refs/trueup/newest``                the newest of those; every opening moves it
====================================  ================================================================

Every write looks, prepares objects, and moves all refs in one compare-and-swap; whoever loses looks again.
A pull request whose head came to the default branch by an ordinary push counts as merged.

Honoured: head locks, conflicts, drafts, approvals by head, who closed it. Noted and ignored: labels, reviewers,
checks. Refused by name: remotes that are not a folder here, repositories with a working tree, writing to
branches of people.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from reconciler.adapters import branches
from reconciler.adapters.git_command import (
    Change,
    GitCommand,
    Identity,
    LostRace,
    Swap,
    branch_name,
    commit_id,
)
from reconciler.core.base import Frozen
from reconciler.core.errors import Retryable, Terminal
from reconciler.core.observed import Approval, Check, ForgeSweep, Marker, PullRequest, is_marked
from reconciler.core.plan import FileChange

_FILE = "pull.json"
_OURS = "trueup/"
_NEWEST = "refs/trueup/newest"
_RECORD = re.compile(r"refs/trueup/pulls/([1-9]\d{0,8})")
_NUMBERED = re.compile(r"refs/(?:trueup/pulls|pull)/([1-9]\d{0,8})(?:/head)?")
_TURNS = 60

_Found = TypeVar("_Found")


_TRUEUP = Identity("trueup", "trueup@localhost")


class _Record(Frozen):
    """What ``pull.json`` holds. Head, marker, ours and mergeable of an open one are found out by each look."""

    pull: PullRequest
    labels: tuple[str, ...] = ()

    def but(self, **changes: Any) -> _Record:
        return self.model_copy(update={"pull": self.pull.model_copy(update=changes)})


class _Look(NamedTuple):
    """The forge at one instant: refs, the default branch, the records as the branches show them now.

    ``landed`` are those that are merged and not yet recorded as such.
    """

    refs: Mapping[str, str]
    main: str
    records: Mapping[int, _Record]
    landed: tuple[int, ...] = ()

    @property
    def tip(self) -> str:
        return self.refs[self.main]

    def left(self, branch: str, tip: str) -> bool:
        """Whether a pull request that was closed has left this branch as it is: nobody works on it any more."""
        pulls = (record.pull for record in self.records.values() if record.pull.state != "open")
        return any((p.branch, p.head) == (branch, tip) for p in pulls)

    def open_on(self, branch: str) -> int | None:
        pulls = (record.pull for record in self.records.values())
        return next((p.number for p in pulls if p.state == "open" and p.branch == branch), None)


class EmbeddedForge:
    """One bare repository. ``clock`` gives every instant.

    ``person`` is ``NAME`` or ``NAME <EMAIL>``, and asked for only by what people do: a machine needs none.
    """

    def __init__(self, repository: Path, person: str, clock: Callable[[], datetime]) -> None:
        if not (repository / "HEAD").is_file() or not (repository / "refs").is_dir():
            hint = "name a bare repository on this machine (git init --bare), or another type of forge"
            raise Terminal("the embedded forge cannot work here", where=str(repository), hint=hint)
        self._git = GitCommand(repository.resolve(), timeout=60)
        self._where = str(repository)
        self._person = person
        self._clock = clock
        self._parsed: dict[str, _Record] = {}
        self._mergeable = lru_cache(maxsize=1024)(partial(branches.merge_cleanly, self._git))

    # --- reader -------------------------------------------------------------------------------------------

    def sweep(self) -> ForgeSweep:
        look = self._look()
        return ForgeSweep(
            open={n: self._seen(look, r) for n, r in look.records.items() if r.pull.state == "open"}
        )

    def closed(self, branch: str) -> tuple[PullRequest, ...]:
        look = self._look()
        found = [r for _, r in sorted(look.records.items(), reverse=True) if r.pull.branch == branch]
        return tuple(self._seen(look, record) for record in found if record.pull.state != "open")

    def merged(self) -> Mapping[str, int]:
        records = self._look().records.items()
        return {r.pull.merge_commit: number for number, r in records if r.pull.state == "merged"}

    def get(self, number: int) -> PullRequest:
        look = self._look()
        return self._seen(look, self._record(look, number))

    def difference(self, number: int) -> str:
        look = self._look()
        return branches.difference(self._git, look.tip, self._record(look, number).pull)

    # --- writer -------------------------------------------------------------------------------------------

    def open(
        self,
        *,
        branch: str,
        base: str,
        title: str,
        body: str,
        files: tuple[FileChange, ...],
        draft: bool,
        labels: tuple[str, ...],
        reviewers: tuple[str, ...] = (),  # noqa: ARG002 - there is nobody to notify
    ) -> int:
        about = {"branch": branch, "title": title, "body": body, "draft": draft}
        if not branch_name(branch).startswith(_OURS):
            raise self._refusal(f"branch {branch} is not trueup's", hint=f"its branches begin with {_OURS}")

        def attempt(look: _Look) -> int:
            there = look.open_on(branch)
            if there is not None:
                return there
            old = look.refs.get(f"refs/heads/{branch}", "")
            if old and not branches.only_by(_TRUEUP, self._changes(look, [old]), old):
                hint = f"open a pull request of it (reconcile pr open {branch}), or delete it"
                raise self._refusal(f"branch {branch} has commits that are not trueup's", hint)
            return self._open(look, _TRUEUP, self._rebuilt(look, base, title, files), about, labels)

        return self._settle(attempt)

    def update(
        self,
        number: int,
        *,
        head: str,
        base: str,
        title: str,
        body: str,
        files: tuple[FileChange, ...],
        draft: bool,
        labels: tuple[str, ...],
    ) -> None:
        def attempt(look: _Look) -> None:
            record = self._at(look, number, head)
            if not record.pull.ours:
                hint = "merge or close it; trueup does not rebuild what people added"
                raise self._refusal(f"pull request {number} has commits that are not trueup's", hint)
            new = self._rebuilt(look, base, title, files)
            changed = record.but(title=title, body=body, draft=draft, head=new)
            self._write(look, _TRUEUP, "update", changed.model_copy(update={"labels": labels}), branch=new)

        self._settle(attempt)

    def merge(self, number: int, *, head: str, message: str) -> str:
        return self._merge(number, head, message, _TRUEUP)

    def ready(self, number: int, *, head: str) -> None:
        def attempt(look: _Look) -> None:
            record = self._at(look, number, head)
            if record.pull.draft:
                self._write(look, _TRUEUP, "ready", record.but(draft=False))

        self._settle(attempt)

    def publish(self, number: int, *, head: str, checks: tuple[Check, ...]) -> None:
        """Nothing: nobody could be held up by them here, and `reconcile pr show` tells the same."""

    def close(self, number: int, *, reason: str) -> None:
        self._close(number, reason, _TRUEUP)

    def comment(self, number: int, text: str) -> None:
        def attempt(look: _Look) -> None:
            record = self._record(look, number)
            self._write(look, _TRUEUP, "comment", record.but(comments=(*record.pull.comments, text)))

        self._settle(attempt)

    def keep_comment(self, number: int, text: str, *, mark: str) -> bool:
        body = f"{text.rstrip()}\n\n{mark}"

        def attempt(look: _Look) -> bool:
            record = self._record(look, number)
            comments = list(record.pull.comments)
            at = next((n for n, said in enumerate(comments) if is_marked(said, mark)), len(comments))
            if comments[at : at + 1] == [body]:
                return False
            comments[at : at + 1] = [body]
            self._write(look, _TRUEUP, "comment", record.but(comments=tuple(comments)))
            return True

        return self._settle(attempt)

    # --- person -------------------------------------------------------------------------------------------

    def approve(self, number: int) -> str:
        who = self._acting()

        def attempt(look: _Look) -> str:
            record = self._at(look, number)
            pull = record.pull
            given = Approval(by=who.name, head=pull.head, at=self._clock())
            if not any((a.by, a.head) == (given.by, given.head) for a in pull.approvals):
                self._write(look, who, "approve", record.but(approvals=(*pull.approvals, given)))
            return pull.head

        return self._settle(attempt)

    def merge_as_person(self, number: int) -> str:
        who, pull = self._acting(), self.get(number)
        message = f"Merge pull request #{number} from {pull.branch}\n\n{pull.title}"
        return self._merge(number, pull.head, message, who)

    def close_as_person(self, number: int, reason: str) -> None:
        self._close(number, reason, self._acting())

    def open_as_person(self, branch: str, title: str, body: str) -> int:
        """Open a pull request of a branch that was pushed; or adopt the open one. Its number."""
        ref = f"refs/heads/{branch_name(branch)}"
        about = {"branch": branch, "title": title, "body": body}
        who = self._acting()

        def attempt(look: _Look) -> int:
            there = look.open_on(branch)
            if there is not None:
                return there
            head = look.refs.get(ref, "")
            if not head or head not in self._changes(look, [head]):
                hint = f"commit on it, then: git push origin {branch}"
                raise self._refusal(f"branch {branch} brings nothing to merge", hint)
            return self._open(look, who, head, about, ())

        return self._settle(attempt)

    def propose_as_person(
        self, *, branch: str, base: str, title: str, body: str, files: tuple[FileChange, ...]
    ) -> int:
        about = {"branch": branch_name(branch), "title": title, "body": body}
        who = self._acting()
        if branch.startswith(_OURS):
            raise self._refusal(f"branch {branch} is trueup's", hint=f"only its branches begin with {_OURS}")

        def attempt(look: _Look) -> int:
            there = look.open_on(branch)
            if there is not None:
                return there
            old = look.refs.get(f"refs/heads/{branch}", "")
            theirs = old and not branches.only_by(who, self._changes(look, [old]), old)
            if theirs and not look.left(branch, old):
                hint = f"open a pull request of it (reconcile pr open {branch}), or git push origin :{branch}"
                raise self._refusal(f"branch {branch} has commits that are not {who.name}'s", hint)
            return self._open(look, who, self._rebuilt(look, base, title, files, who), about, ())

        return self._settle(attempt)

    def _acting(self) -> Identity:
        who = Identity.parse(self._person)
        if who.name == _TRUEUP.name or who.email == _TRUEUP.email:
            hint = "set it to your name"
            raise Terminal("a person cannot act as trueup", where="git config user.name", hint=hint)
        return who

    # --- looking ------------------------------------------------------------------------------------------

    def _look(self) -> _Look:
        """Three Git calls, whatever the number of pull requests. Git reads ``newest`` before the records."""
        refs, main = self._git.refs("refs/heads", "refs/pull", "refs/trueup")
        if not main:
            hint = "push a first commit to its default branch"
            raise self._refusal("the repository is empty, or its HEAD names no branch", hint)
        tips = {int(match[1]): oid for name, oid in refs.items() if (match := _RECORD.fullmatch(name))}
        parsed = {oid: self._parsed[oid] for oid in tips.values() if oid in self._parsed}
        unread = [oid for oid in tips.values() if oid not in parsed]
        for oid, found in zip(unread, self._git.objects(f"{oid}:{_FILE}" for oid in unread), strict=True):
            try:
                parsed[oid] = _Record.model_validate_json(found.data if found else b"")
            except ValidationError as error:
                hint = f"another version of trueup or another program wrote it; see git log {oid}"
                raise self._refusal("a pull request's record cannot be read", hint) from error
        self._parsed = parsed
        return self._refreshed(_Look(refs, main, {number: parsed[tips[number]] for number in sorted(tips)}))

    def _refreshed(self, look: _Look) -> _Look:
        """The open records with the head, the state and the ownership that the branches show now."""
        waiting = {number: record for number, record in look.records.items() if record.pull.state == "open"}
        # A deleted branch closes nothing: its pull request keeps the last head.
        heads = {n: look.refs.get(f"refs/heads/{r.pull.branch}", r.pull.head) for n, r in waiting.items()}
        changes = self._changes(look, heads.values())
        fresh = dict(look.records)
        for number, record in waiting.items():
            pull, head = record.pull, heads[number]
            ours = pull.author == _TRUEUP.name and pull.branch.startswith(_OURS)
            if head in changes:
                fresh[number] = record.but(head=head, ours=ours and branches.only_by(_TRUEUP, changes, head))
            else:
                fresh[number] = record.but(head=head, ours=ours, **self._landing(look, pull, head))
        landed = tuple(number for number in waiting if fresh[number].pull.state == "merged")
        return look._replace(records=fresh, landed=landed)

    def _landing(self, look: _Look, pull: PullRequest, head: str) -> dict[str, Any]:
        """How the head of an open pull request came to the default branch.

        By a merge commit that was pushed, by a fast-forward, or by our own merge cut off before its record.
        Empty where the branch was only set back to a commit that the default branch had before.
        """
        path = self._git.commits(f"{look.tip}\n^{head}\n", "--ancestry-path")
        landing, at = head, look.tip
        while at in path:
            landing, at = at, path[at].parents[0]
        if at != head:
            by = path[landing]
            who = {"closed_by": by.committer, "closed_by_us": by.people == {_TRUEUP}}
            return {"state": "merged", "merge_commit": landing, "closed": by.at, **who}
        if head != pull.head:
            return {}
        return {
            "state": "merged",
            "merge_commit": head,
            "closed": self._git.commits(f"{head}\n", "-1")[head].at,
        }

    def _seen(self, look: _Look, record: _Record) -> PullRequest:
        pull = record.pull
        marker = Marker.find(pull.body) if pull.author == _TRUEUP.name else None
        mergeable = pull.state == "open" and self._mergeable(look.tip, pull.head)
        return pull.model_copy(update={"marker": marker, "mergeable": mergeable})

    def _record(self, look: _Look, number: int) -> _Record:
        if number not in look.records:
            hint = "reconcile pr list shows the open ones"
            raise self._refusal(f"there is no pull request {number}", hint)
        return look.records[number]

    def _at(self, look: _Look, number: int, head: str | None = None) -> _Record:
        """The open pull request, if its head is still this one."""
        record = self._record(look, number)
        if head is not None and record.pull.head != commit_id(head):
            hint = "look at its new commits first"
            raise Retryable(f"pull request {number} moved on from {head[:12]}", where=self._where, hint=hint)
        if record.pull.state != "open":
            raise self._refusal(f"pull request {number} is {record.pull.state} already")
        return record

    def _changes(self, look: _Look, heads: Iterable[str]) -> dict[str, Change]:
        return branches.brought(self._git, look.tip, heads)

    # --- writing ------------------------------------------------------------------------------------------

    def _settle(self, attempt: Callable[[_Look], _Found]) -> _Found:
        """Look and try; whoever loses the compare-and-swap looks again."""
        for turn in range(_TURNS):
            try:
                look = self._look()
                if look.landed:
                    for number in look.landed:
                        self._write(look, _TRUEUP, "landed", look.records[number])
                    look = self._look()
                return attempt(look)
            except LostRace as error:
                lost = error
                time.sleep(min(0.002 * turn, 0.1))
        raise Retryable(lost.what, where=self._where, hint=lost.hint) from lost

    def _open(
        self, look: _Look, who: Identity, head: str, about: Mapping[str, Any], labels: tuple[str, ...]
    ) -> int:
        number = 1 + max((int(m[1]) for name in look.refs if (m := _NUMBERED.fullmatch(name))), default=0)
        pull = PullRequest(
            number=number,
            state="open",
            head=head,
            base=look.main.removeprefix("refs/heads/"),
            author=who.name,
            opened=self._clock(),
            **about,
        )
        self._write(look, who, "open", _Record(pull=pull, labels=labels), branch=head)
        return number

    def _merge(self, number: int, head: str, message: str, who: Identity) -> str:
        def attempt(look: _Look) -> str:
            pull = self._record(look, number).pull
            if pull.state == "merged" and pull.head == head:
                return pull.merge_commit
            record = self._at(look, number, head)
            if pull.draft:
                raise self._refusal(f"pull request {number} is a draft", "it is not meant to be merged yet")
            tree = self._git.merged_tree(look.tip, head)
            if not tree:
                hint = f"rebuild it on {pull.base}, or merge {pull.base} into {pull.branch} and push"
                raise self._refusal(f"pull request {number} conflicts with {pull.base}", hint)
            made = self._git.commit_tree(tree, (look.tip, head), message, who, self._clock())
            done = self._ended(record, "merged", who).but(merge_commit=made)
            self._write(look, who, "merge", done, branch="" if pull.ours else None, main=made)
            return made

        return self._settle(attempt)

    def _close(self, number: int, reason: str, who: Identity) -> None:
        def attempt(look: _Look) -> None:
            pull = self._record(look, number).pull
            if pull.state == "closed":
                return
            closed = self._ended(self._at(look, number), "closed", who).but(comments=(*pull.comments, reason))
            self._write(look, who, "close", closed, branch="" if pull.ours and who == _TRUEUP else None)

        self._settle(attempt)

    def _ended(self, record: _Record, state: str, who: Identity) -> _Record:
        return record.but(state=state, closed=self._clock(), closed_by=who.name, closed_by_us=who == _TRUEUP)

    def _rebuilt(
        self, look: _Look, base: str, title: str, files: tuple[FileChange, ...], who: Identity = _TRUEUP
    ) -> str:
        what = (self._git, look.tip, base, title, files)
        return branches.rebuilt(*what, who=who, at=self._clock(), where=self._where)

    def _write(
        self,
        look: _Look,
        who: Identity,
        event: str,
        record: _Record,
        *,
        branch: str | None = None,
        main: str | None = None,
    ) -> None:
        """Record an event and move ``branch`` with it; None asks that it rests, an empty string deletes it.

        The record comes last: of a Git that is killed, the refs before it are what ``_landing`` and the next
        number understand.
        """
        pull = record.pull
        ref, tip = f"refs/trueup/pulls/{pull.number}", f"refs/heads/{pull.branch}"
        old = look.refs.get(ref, "")
        content = record.model_dump_json(indent=1, exclude={"pull": {"marker", "mergeable"}})
        made = self._git.commit(old, {_FILE: content}, f"{event} {pull.number}", who, self._clock())
        moves = {tip: look.refs.get(tip, "") if branch is None else branch}
        moves |= {look.main: main} if main else {}
        moves |= {_NEWEST: made} if not old else {}
        moves |= {f"refs/pull/{pull.number}/head": pull.head, ref: made}
        swaps = [Swap(name, look.refs.get(name, ""), new) for name, new in moves.items()]
        self._git.swap(swap for swap in swaps if swap.old or swap.new)

    def _refusal(self, what: str, hint: str = "") -> Terminal:
        return Terminal(what, where=self._where, hint=hint)
