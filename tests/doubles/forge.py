"""Pull requests in memory, over a MemoryRepository: the three forge ports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from reconciler.core.errors import Retryable, Terminal
from reconciler.core.observed import Approval, Check, ForgeSweep, Marker, PullRequest
from reconciler.core.plan import FileChange
from tests.doubles.repository import MemoryRepository

US = "trueup"


class MemoryForge:
    """``person`` is who approves, merges and closes as a person; ``checks``: whether it shows any."""

    def __init__(
        self,
        repository: MemoryRepository,
        clock: Callable[[], datetime],
        person: str = "Ada",
        *,
        checks: bool = True,
    ) -> None:
        self._none: tuple[Check, ...] | None = () if checks else None
        self.repository = repository
        self.clock = clock
        self.person = person
        self.pulls: dict[int, PullRequest] = {}

    # --- reading ------------------------------------------------------------------------------------------

    def sweep(self) -> ForgeSweep:
        return ForgeSweep(open={n: self._seen(p) for n, p in self.pulls.items() if p.state == "open"})

    def closed(self, branch: str) -> tuple[PullRequest, ...]:
        found = [p for _, p in sorted(self.pulls.items(), reverse=True) if p.branch == branch]
        return tuple(self._seen(pull) for pull in found if pull.state != "open")

    def merged(self) -> Mapping[str, int]:
        return {p.merge_commit: n for n, p in self.pulls.items() if p.state == "merged"}

    def get(self, number: int) -> PullRequest:
        return self._seen(self._pull(number))

    # --- our writes ---------------------------------------------------------------------------------------

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
        reviewers: tuple[str, ...] = (),
    ) -> int:
        there = next((p for p in self.pulls.values() if p.state == "open" and p.branch == branch), None)
        if there is not None:
            return there.number
        head = self._built(base, title, files)
        number = len(self.pulls) + 1
        self.pulls[number] = PullRequest(
            number=number,
            state="open",
            branch=branch,
            head=head,
            title=title,
            author=US,
            ours=True,
            draft=draft,
            body=body,
            checks=self._none,
            opened=self.clock(),
        )
        return number

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
        self._at(number, head)
        built = self._built(base, title, files)
        self._change(number, head=built, title=title, body=body, draft=draft, checks=self._none)

    def ready(self, number: int, *, head: str) -> None:
        self._at(number, head)
        self._change(number, draft=False)

    def merge(self, number: int, *, head: str, message: str) -> str:
        return self._merge(number, head, message, US)

    def publish(self, number: int, *, head: str, checks: tuple[Check, ...]) -> None:
        pull = self._at(number, head)
        if pull.checks is not None:
            there = {check.name: check for check in (*pull.checks, *checks)}
            self._change(number, checks=tuple(there[name] for name in sorted(there)))

    def close(self, number: int, *, reason: str) -> None:
        self._close(number, reason, US)

    def comment(self, number: int, text: str) -> None:
        pull = self._pull(number)
        self._change(number, comments=(*pull.comments, text))

    # --- what people do -----------------------------------------------------------------------------------

    def approve(self, number: int) -> str:
        pull = self._at(number)
        if (self.person, pull.head) not in {(a.by, a.head) for a in pull.approvals}:
            given = Approval(by=self.person, head=pull.head, at=self.clock())
            self._change(number, approvals=(*pull.approvals, given))
        return pull.head

    def merge_as_person(self, number: int) -> str:
        return self._merge(number, self._pull(number).head, f"Merge #{number}", self.person)

    def close_as_person(self, number: int, reason: str) -> None:
        self._close(number, reason, self.person)

    # --- inside -------------------------------------------------------------------------------------------

    def _pull(self, number: int) -> PullRequest:
        if number not in self.pulls:
            raise Terminal(f"there is no pull request {number}")
        return self.pulls[number]

    def _at(self, number: int, head: str | None = None) -> PullRequest:
        """The open pull request, if its head is still this one."""
        pull = self._pull(number)
        if head is not None and pull.head != head:
            raise Retryable(f"pull request {number} moved on from {head[:12]}")
        if pull.state != "open":
            raise Terminal(f"pull request {number} is {pull.state} already")
        return pull

    def _change(self, number: int, **changes: object) -> None:
        self.pulls[number] = self.pulls[number].model_copy(update=changes)

    def _built(self, base: str, title: str, files: tuple[FileChange, ...]) -> str:
        if not self.repository.on_main(base):
            raise Retryable(f"{base[:12]} is not on the default branch")
        changes = {file.path: file.content for file in files}
        return self.repository.commit(changes, at=self.clock(), author=US, subject=title, onto=base)

    def _seen(self, pull: PullRequest) -> PullRequest:
        open_ = pull.state == "open"
        marker = Marker.find(pull.body) if pull.author == US else None
        return pull.model_copy(update={"marker": marker, "mergeable": open_ and not self._conflicts(pull.head)})

    def _conflicts(self, head: str) -> bool:
        """Whether main changed one of the files since the branch left it, and not to the same."""
        repository = self.repository
        base = repository.commits[head].commit.parent
        theirs, ours = repository.changed(repository.main, base), repository.changed(head, base)
        return any(theirs[path] != ours[path] for path in theirs.keys() & ours.keys())

    def _merge(self, number: int, head: str, message: str, who: str) -> str:
        pull = self._pull(number)
        if pull.state == "merged" and pull.head == head:
            return pull.merge_commit
        if self._at(number, head).draft:
            raise Terminal(f"pull request {number} is a draft")
        if self._conflicts(head):
            raise Terminal(f"pull request {number} conflicts with {pull.base}")
        repository = self.repository
        changes = repository.changed(head, repository.commits[head].commit.parent)
        made = repository.commit(changes, at=self.clock(), author=who, subject=message, merging=head)
        self._end(number, "merged", who)
        self._change(number, merge_commit=made)
        return made

    def _close(self, number: int, reason: str, who: str) -> None:
        if self._pull(number).state == "closed":
            return
        pull = self._at(number)
        self._change(number, comments=(*pull.comments, reason))
        self._end(number, "closed", who)

    def _end(self, number: int, state: str, who: str) -> None:
        self._change(number, state=state, closed=self.clock(), closed_by=who, closed_by_us=who == US)
