"""Pull requests as Gitea's API and GitHub's have them in common: the same paths, and records of one shape.

:class:`reconciler.adapters.forges.gitea.GiteaForge` and :class:`reconciler.adapters.forges.github.GitHubForge`
are made of it. It knows the order of calls: looked for before a write and again after an unclear answer, the
head as a lock, one pull request a branch. What a forge does in a way of its own is a method that its adapter
fills in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from reconciler.adapters.forges.http import ForgeClient, Parameters, Refused
from reconciler.adapters.git_command import LostRace, branch_name, commit_id
from reconciler.core.documents import Environment
from reconciler.core.errors import Retryable, Terminal
from reconciler.core.finding import Finding, State
from reconciler.core.observed import Approval, Check, ForgeSweep, PullRequest, is_marked
from reconciler.core.plan import FileChange

OURS = "trueup/"
"""How the branches begin that only trueup writes to."""
LABEL = "Set by trueup."
"""The description of the labels that are ours to take off again."""
TURNS = 5
_PAGES = 400

Raw = Mapping[str, Any]


def author(raw: Raw) -> str:
    """Who wrote it. An account that is gone has no record."""
    return str((raw["user"] or {}).get("login", "ghost"))


class RestForge(ABC):
    """``repository`` (OWNER/NAME) over ``http``. ``where`` is its address, for messages."""

    page: ClassVar[tuple[str, int]]
    """The parameter that holds a page's size, and the size."""
    approval: ClassVar[str]
    """The event of an approving review."""
    team: ClassVar[tuple[str, str]]
    """Where a pull request has the teams that were asked for a review, and the name of each."""
    twice: ClassVar[int]
    """The status that refuses a second pull request of the same branch."""

    def __init__(
        self, http: ForgeClient, repository: str, *, where: str, sleep: Callable[[float], None]
    ) -> None:
        self._http, self._repo = http, f"/repos/{repository}"
        self._where, self._sleep = where, sleep

    # --- what each forge does in its own way --------------------------------------------------------------

    @property
    @abstractmethod
    def login(self) -> str:
        """Who we are there."""

    @abstractmethod
    def _branch(self, raw: Raw) -> str:
        """The head branch; as OWNER:BRANCH in a fork, also one that is gone."""

    @abstractmethod
    def _pull(self, raw: Raw) -> PullRequest:
        """What the list tells of a pull request."""

    @abstractmethod
    def _is_ours(self, raw: Raw) -> bool:
        """Whether an open one is ours, and brings nobody else's commits."""

    @abstractmethod
    def _complete(self, raw: Raw) -> PullRequest:
        """With whose commits an open one has and whether it merges, or with who closed it."""

    @abstractmethod
    def closed(self, branch: str) -> tuple[PullRequest, ...]:
        """See the port."""

    @abstractmethod
    def _closed_ones(self) -> Iterator[Raw]:
        """Every closed one."""

    @abstractmethod
    def _approvals(self, number: int) -> Iterator[Approval]:
        """Those that count, each at the head that it was given for."""

    @abstractmethod
    def _checks(self, head: str) -> Mapping[str, Check]:
        """The latest check of ours at ``head`` for each name."""

    @abstractmethod
    def _show(self, head: str, check: Check) -> None:
        """Publish a check."""

    @abstractmethod
    def _build(self, branch: str, base: str, title: str, files: tuple[FileChange, ...]) -> str:
        """The branch at a commit of ours, over our own earlier ones only; the default branch's name."""

    @abstractmethod
    def _rebuild(self, branch: str, head: str, base: str, title: str, files: tuple[FileChange, ...]) -> None:
        """The branch from ``head`` to a commit on ``base``; not at all where it has that already."""

    @abstractmethod
    def _brings(self, branch: str) -> str:
        """The default branch, if this one has commits for it; else empty."""

    @abstractmethod
    def _wish(self, branch: str, into: str, title: str, body: str, draft: bool, labels: tuple[str, ...]) -> Raw:
        """What is sent to open a pull request."""

    @abstractmethod
    def _edit(self, raw: Raw, *, title: str, body: str, draft: bool, labels: tuple[str, ...]) -> None:
        """What it says, as far as that differs. Labels of people stay."""

    @abstractmethod
    def _try_merge(self, pull: PullRequest, message: str, by_us: bool) -> str:
        """Why its head was not merged; empty where it was, also after an unclear answer."""

    @abstractmethod
    def _delete(self, branch: str, head: str) -> None:
        """Our branch, if it is still at ``head``: what a person pushed meanwhile stays."""

    # --- reader -------------------------------------------------------------------------------------------

    def sweep(self) -> ForgeSweep:
        found = {raw["number"]: self._pull(raw) for raw in self._open_ones()}
        return ForgeSweep(open=dict(sorted(found.items())), remaining=self._http.remaining)

    def merged(self) -> Mapping[str, int]:
        return {raw["merge_commit_sha"]: raw["number"] for raw in self._closed_ones() if raw["merged_at"]}

    def get(self, number: int) -> PullRequest:
        raw = self._one(number)
        pull = self._complete(raw)
        comments = self._comments(number) if raw["comments"] else ()
        return pull.model_copy(
            update={
                "approvals": tuple(self._approvals(number)),
                "checks": tuple(check for _, check in sorted(self._checks(pull.head).items())),
                "comments": tuple(comment["body"] for comment in comments),
            }
        )

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
        reviewers: tuple[str, ...] = (),
    ) -> int:
        if not branch_name(branch).startswith(OURS):
            raise self._refusal(f"branch {branch} is not trueup's", f"its branches begin with {OURS}")
        there, into = self._built(branch, base, title, files)
        if there is not None:
            return there
        number, made = self._post_pull(branch, self._wish(branch, into, title, body, draft, labels))
        if not made:
            return number
        first = min(self._ours_on(branch), default=number)
        if first < number:
            self._end(number, f"#{first} was opened for the same branch at the same time.")
            return first
        self._ask_for_review(number, reviewers)
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
        raw = self._at(number, head)
        if not self._is_ours(raw):
            hint = "merge or close it; trueup does not rebuild what people added"
            raise self._refusal(f"pull request {number} has commits that are not trueup's", hint)
        self._rebuild(self._branch(raw), head, base, title, files)
        self._edit(raw, title=title, body=body, draft=draft, labels=labels)

    def merge(self, number: int, *, head: str, message: str) -> str:
        return self._merge(number, head, message, by_us=True)

    def publish(self, number: int, *, head: str, checks: tuple[Check, ...]) -> None:
        self._at(number, head)
        shown = self._checks(head)
        for check in checks:
            if shown.get(check.name) != check:
                self._show(head, check)

    def close(self, number: int, *, reason: str) -> None:
        raw = self._one(number)
        if raw["state"] == "open":
            branch, ours = self._branch(raw), self._is_ours(raw)
            self._end(number, reason)
            if ours and self._open_on(branch) is None:
                self._delete(branch, raw["head"]["sha"])
        elif raw["merged"]:
            raise self._refusal(f"pull request {number} is merged already")

    def comment(self, number: int, text: str) -> None:
        self._one(number)
        self._send("POST", f"/issues/{number}/comments", {"body": text})

    def keep_comment(self, number: int, text: str, *, mark: str) -> bool:
        self._one(number)
        body = f"{text.rstrip()}\n\n{mark}"
        mine = (comment for comment in self._comments(number) if author(comment) == self.login)
        there = next((comment for comment in mine if is_marked(comment["body"], mark)), None)
        if there is None:
            self._send("POST", f"/issues/{number}/comments", {"body": body})
        elif there["body"] != body:
            self._send("PATCH", f"/issues/comments/{there['id']}", {"body": body})
        else:
            return False
        return True

    # --- person -------------------------------------------------------------------------------------------

    def open_as_person(self, branch: str, title: str, body: str) -> int:
        there = self._open_on(branch_name(branch))
        if there is not None:
            return there
        into = self._brings(branch)
        if not into:
            hint = f"commit on it, then: git push origin {branch}"
            raise self._refusal(f"branch {branch} brings nothing to merge", hint)
        return self._post_pull(branch, {"head": branch, "base": into, "title": title, "body": body})[0]

    def propose_as_person(
        self, *, branch: str, base: str, title: str, body: str, files: tuple[FileChange, ...]
    ) -> int:
        if branch_name(branch).startswith(OURS):
            raise self._refusal(f"branch {branch} is trueup's", f"only its branches begin with {OURS}")
        there, into = self._built(branch, base, title, files)
        if there is not None:
            return there
        return self._post_pull(branch, {"head": branch, "base": into, "title": title, "body": body})[0]

    def approve(self, number: int) -> str:
        raw = self._at(number)
        head, me = str(raw["head"]["sha"]), self.login
        if not any((a.by, a.head) == (me, head) for a in self._approvals(number)):
            review = {"event": self.approval, "commit_id": head}
            try:
                self._send("POST", f"/pulls/{number}/reviews", review)
            except Refused as refused:
                if refused.status == 422 and author(raw) == me:
                    hint = "ask another person"
                    raise self._refusal(
                        f"pull request {number} is by {me}, who cannot approve it", hint
                    ) from None
                raise
        return head

    def merge_as_person(self, number: int) -> str:
        raw = self._one(number)
        pull = self._pull(raw)
        message = f"Merge pull request #{number} from {pull.branch}\n\n{pull.title}"
        return self._merge(number, pull.head, message, by_us=False)

    def close_as_person(self, number: int, reason: str) -> None:
        raw = self._one(number)
        if raw["merged"]:
            raise self._refusal(f"pull request {number} is merged already")
        if raw["state"] == "open":
            self._end(number, reason)

    # --- looking ------------------------------------------------------------------------------------------

    def _open_ones(self) -> Iterator[Raw]:
        return self._pages("/pulls", {"state": "open"})

    def _open_on(self, branch: str) -> int | None:
        """The first open pull request of a branch of this repository, whoever opened it."""
        return min((raw["number"] for raw in self._open_ones() if self._branch(raw) == branch), default=None)

    def _ours_on(self, branch: str) -> Iterator[int]:
        mine = (raw for raw in self._open_ones() if author(raw) == self.login)
        return (raw["number"] for raw in mine if self._branch(raw) == branch)

    def _comments(self, number: int) -> Iterator[Raw]:
        return self._pages(f"/issues/{number}/comments", {})

    def _one(self, number: int) -> Raw:
        try:
            found: Raw = self._get(f"/pulls/{number}")
        except Refused as refused:
            if refused.status != 404:
                raise
            hint = "reconcile pr list shows the open ones"
            raise self._refusal(f"there is no pull request {number}", hint) from None
        return found

    def _at(self, number: int, head: str | None = None) -> Raw:
        return self._still(self._one(number), head)

    def _still(self, raw: Raw, head: str | None) -> Raw:
        """An open pull request, if its head is still this one."""
        number = raw["number"]
        if head is not None and raw["head"]["sha"] != commit_id(head):
            hint = "look at its new commits first"
            raise Retryable(f"pull request {number} moved on from {head[:12]}", where=self._where, hint=hint)
        if raw["state"] != "open":
            state = "merged" if raw["merged"] else "closed"
            raise self._refusal(f"pull request {number} is {state} already")
        return raw

    # --- writing ------------------------------------------------------------------------------------------

    def _built(
        self, branch: str, base: str, title: str, files: tuple[FileChange, ...]
    ) -> tuple[int | None, str]:
        """The open pull request of a branch; or none, once the branch is built, and where it goes."""
        for turn in range(TURNS):
            there = self._open_on(branch)
            if there is not None:
                return there, ""
            try:
                into = self._build(branch, base, title, files)
                break
            except LostRace:  # to one who is about to open it
                if turn + 1 == TURNS:
                    raise
                self._sleep(0.1 * 2**turn)
        return self._open_on(branch), into

    def _left(self, branch: str, tip: str) -> bool:
        """Whether a pull request that was closed has left a person's branch as it is: nobody works on it."""
        return not branch.startswith(OURS) and any(pull.head == tip for pull in self.closed(branch))

    def _not_ours(self, branch: str) -> Terminal:
        whose = "trueup" if branch.startswith(OURS) else self.login
        hint = f"open a pull request of it (reconcile pr open {branch}), or git push origin :{branch}"
        return self._refusal(f"branch {branch} has commits that are not {whose}'s", hint)

    def _post_pull(self, branch: str, wish: Raw) -> tuple[int, bool]:
        """Open it, True; or adopt what is there after a refusal or an unclear answer, False."""
        try:
            return int(self._send("POST", "/pulls", wish)["number"]), True
        except (Refused, Retryable) as error:
            if isinstance(error, Refused) and error.status != self.twice:
                raise
            there = self._open_on(branch)
            if there is None:
                raise
            return there, False

    def _ask_for_review(self, number: int, reviewers: Iterable[str]) -> None:
        """Ask each account, or ORGANISATION/TEAM. Who cannot be asked is named in a comment: no error."""
        wanted = {reviewer.rpartition("/")[2]: reviewer for reviewer in reviewers}
        wanted.pop(self.login, None)
        for name, reviewer in wanted.items():
            try:
                field = "team_reviewers" if "/" in reviewer else "reviewers"
                self._send("POST", f"/pulls/{number}/requested_reviewers", {field: [name]})
            except Refused as refused:
                if refused.status not in (403, 404, 422):
                    raise
        if not wanted:
            return
        raw = self._one(number)  # a team that a forge does not know may be no error to it
        asked = {user["login"].lower() for user in raw.get("requested_reviewers") or ()}
        asked |= {team[self.team[1]].lower() for team in raw.get(self.team[0]) or ()}
        unknown = [f"`{reviewer}`" for name, reviewer in wanted.items() if name.lower() not in asked]
        if unknown:
            self.comment(
                number, f"No review could be asked of {', '.join(unknown)}: unknown here, or without access."
            )

    def _merge(self, number: int, head: str, message: str, *, by_us: bool) -> str:
        """A merge of this head only. A refusal is looked into: one status says very different things."""
        said = ""
        for turn in range(TURNS):
            raw = self._one(number)
            if raw["merged"] and raw["head"]["sha"] == head:
                return str(raw["merge_commit_sha"])
            pull = self._complete(self._still(raw, head))
            if pull.draft:
                raise self._refusal(f"pull request {number} is a draft", "it is not meant to be merged yet")
            if not pull.mergeable:
                hint = f"rebuild it on {pull.base}, or merge {pull.base} into {pull.branch} and push"
                raise self._refusal(f"pull request {number} conflicts with {pull.base}", hint)
            if turn > 1 and raw["mergeable"]:
                break  # it is not being checked: what refuses it is a protection of the branch
            self._sleep(0.1 * 2**turn if said else 0.0)
            said = self._try_merge(pull, message, by_us)
            if not said:
                return str(self._one(number)["merge_commit_sha"])
        hint = f"see what the protection of {pull.base} asks for; it is tried again"
        what = f"pull request {number} is not merged by the forge yet: {said}"
        raise Retryable(what, where=self._where, hint=hint)

    def _end(self, number: int, reason: str) -> None:
        """Say why, then close. Not said twice where it was cut off in between."""
        last = [(author(c), c["body"]) for c in list(self._comments(number))[-1:]]
        if reason and last != [(self.login, reason)]:
            self._send("POST", f"/issues/{number}/comments", {"body": reason})
        self._patch(number, {"state": "closed"})

    def _refusal(self, what: str, hint: str = "") -> Terminal:
        return Terminal(what, where=self._where, hint=hint)

    def _takes_push(self) -> bool:
        """Whether the token may do what its account may; True where nothing but a write tells."""
        return True

    def diagnose(self, _environments: Sequence[Environment], /) -> Iterator[Finding]:
        """Whether we may write, and whether people may push past pull requests.

        ``permissions`` of a repository and ``protected`` of a branch are the same on Gitea and GitHub. A GitHub
        App's token sees no permissions of its own; nothing is said then.
        """
        raw = self._get("")
        if "push" in (raw.get("permissions") or {}):
            yield self._write_access(raw["permissions"]["push"])
        yield self._protection(str(raw.get("default_branch") or "main"))

    def _write_access(self, account: bool) -> Finding:
        if account and self._takes_push():
            return self._found("ok", f"{self.login} may write to the repository")
        if account:
            hint = "make it one with the right to write to this repository (docs/forges.md has its scopes)"
            return self._found("fail", f"{self.login} may write to the repository, and its token may not", hint)
        hint = "give this account write access to this repository, and no other"
        return self._found("fail", f"{self.login} may not write to the repository", hint)

    def _protection(self, branch: str) -> Finding:
        hint = "allow merges by pull request only, and with the check trueup/admission"
        try:
            protected = self._get(f"/branches/{quote(branch, safe='')}").get("protected")
        except Refused as refused:
            if refused.status == 404:
                return self._found("fail", f"the default branch {branch} is not there", "push a commit to it")
            return self._found("warn", f"whether {branch} is protected is not told: {refused.what}", hint)
        if protected:
            return self._found("ok", f"{branch} is protected")
        return self._found("warn", f"{branch} is not protected: anybody who may write can push to it", hint)

    def _found(self, state: State, what: str, hint: str = "") -> Finding:
        return Finding(check="rights", state=state, what=what, where=self._where, hint=hint)

    # --- HTTP ---------------------------------------------------------------------------------------------

    def _get(self, path: str, parameters: Parameters | None = None) -> Any:
        return self._http.get(self._repo + path, parameters)

    def _pages(self, path: str, parameters: Parameters, *, within: str = "") -> Iterator[Any]:
        name, size = self.page
        return self._http.pages(self._repo + path, {**parameters, name: size}, most=_PAGES, within=within)

    def _send(self, method: str, path: str, body: Any) -> Any:
        return self._http.send(method, self._repo + path, body)

    def _patch(self, number: int, changed: Mapping[str, Any]) -> None:
        self._send("PATCH", f"/pulls/{number}", changed)
