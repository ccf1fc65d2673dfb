"""Pull requests on Gitea or Forgejo: the ports ForgeReader, ForgeWriter and ForgePerson over its API (v1).

Commits are made in a mirror and pushed; everything else is HTTP. What this forge does otherwise than one would
expect, and what is done about it here (tried on Gitea 1.26.0):

==============================================  =======================================================
two openings at once make two pull requests     list before and after; the younger of ours closes itself
list filters by head are ignored                the list is filtered here
a draft, or one being checked, says that it     Git tells whether it merges, in the mirror
cannot be merged
a merge is refused by 405 for a conflict,       Git tells a conflict; what is left is tried again a few times,
while checking, and by branch protection        and then it is Retryable with the forge's own words
its automatic merge merges what came later      never used: merged explicitly, and with the head
drafts are a title that begins with `WIP:`      added and taken off here; nobody else sees it
anybody may approve                             an approval counts if the forge calls it official: by someone
                                                who may write, and of the reviewer's latest opinion
labels are numbers, and a name may have many    made where missing, with a description that says whose they
                                                are; the lowest number of a name is taken
a team that it does not know is asked for a     who was asked is read back, and who was not is named
review, without an error
==============================================  =======================================================

The token needs the scopes `read:user`, `write:repository` and `write:issue`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import quote

from reconciler.adapters import branches
from reconciler.adapters.forges.http import ForgeClient, Parameters, Refused
from reconciler.adapters.git_command import GitCommand, Identity, LostRace, branch_name, commit_id
from reconciler.adapters.mirror import Credentials, Mirror
from reconciler.core.errors import Retryable, Terminal
from reconciler.core.observed import Approval, Check, ForgeSweep, Marker, PullRequest
from reconciler.core.plan import FileChange

if TYPE_CHECKING:
    import httpx

_OURS = "trueup/"
_WIP = "WIP: "
_PAGE = 50
_PAGES = 400
_TITLE = 255
_TURNS = 5
_LABEL = "Set by trueup."
_CHECKS: Mapping[str, Literal["success", "pending", "failure"]] = {"success": "success", "pending": "pending"}

_Raw = Mapping[str, Any]


class _Account(NamedTuple):
    """Who the token is."""

    login: str
    identity: Identity


class GiteaForge:
    """``repository`` (OWNER/NAME) of the Gitea at ``url``, as the account of ``token``.

    ``token`` is called at each use, and ``token_from`` says where it comes from. ``cache`` is where mirrors
    are: a source of the same cache with :attr:`remote` for its address shares the mirror. ``identity`` is whom
    our commits name, by default the account: a branch with anyone else's commits is not ours any more.
    ``transport`` and ``sleep`` are for tests.
    """

    def __init__(
        self,
        url: str,
        repository: str,
        token: Callable[[], str],
        *,
        token_from: str,
        cache: Path,
        clock: Callable[[], datetime],
        identity: Identity | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        base = url.rstrip("/")
        self.remote = f"{base}/{repository}.git"
        self.credentials = Credentials(token, token_from)
        self._where = f"{base}/{repository}"
        self._repo = f"/repos/{repository}"
        self._http = ForgeClient(
            f"{base}/api/v1", token, token_from=token_from, transport=transport, sleep=sleep, clock=clock
        )
        self._mirror = Mirror(self.remote, cache, credentials=self.credentials)
        self._clock = clock
        self._sleep = sleep
        self._identity = identity

    # --- reader -------------------------------------------------------------------------------------------

    def sweep(self) -> ForgeSweep:
        found = {raw["number"]: self._pull(raw) for raw in self._open_ones()}
        return ForgeSweep(open=dict(sorted(found.items())), remaining=self._http.remaining)

    def closed(self, branch: str) -> tuple[PullRequest, ...]:
        """See the port. The closed ones are read newest first, as far as the page that names the branch.

        Gitea cannot be asked by head branch; that there was never one of it is one call.
        """
        base = self._refs(self._mirror.git())[1].removeprefix("refs/heads/")
        try:
            self._get(f"/pulls/{quote(base, safe='')}/{quote(branch_name(branch))}")
        except Refused as refused:
            if refused.status == 404:
                return ()
            raise
        found: list[_Raw] = []
        for number, raw in enumerate(self._closed_ones()):
            if found and number % _PAGE == 0:
                break
            found += [raw] if self._branch(raw) == branch else []
        newest_first = sorted(found, key=lambda raw: -int(raw["number"]))
        return tuple(self._ended(raw) for raw in newest_first)

    def merged(self) -> Mapping[str, int]:
        return {raw["merge_commit_sha"]: raw["number"] for raw in self._closed_ones() if raw["merged"]}

    def get(self, number: int) -> PullRequest:
        raw = self._one(number)
        pull = self._complete(raw)
        comments = self._get(f"/issues/{number}/comments") if raw["comments"] else []
        return pull.model_copy(
            update={
                "approvals": tuple(self._approvals(number)),
                "checks": tuple(check for _, (check, _) in sorted(self._checks(pull.head).items())),
                "comments": tuple(comment["body"] for comment in comments),
            }
        )

    def difference(self, number: int) -> str:
        raw = self._one(number)
        git, tip = self._known(raw)
        return branches.difference(git, tip, self._pull(raw))

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
        if not branch_name(branch).startswith(_OURS):
            raise self._refusal(f"branch {branch} is not trueup's", f"its branches begin with {_OURS}")
        for turn in range(_TURNS):
            there = self._open_on(branch)
            if there is not None:
                return there
            try:
                main = self._build(branch, base, title, files)
                break
            except LostRace:  # to one who is about to open it
                if turn + 1 == _TURNS:
                    raise
                self._sleep(0.1 * 2**turn)
        there = self._open_on(branch)
        if there is not None:
            return there
        wish = {
            "head": branch,
            "base": main,
            "title": _titled(title, draft),
            "body": body,
            "labels": list(self._label_ids(labels).values()),
        }
        number, made = self._post_pull(branch, wish)
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
        if not self._complete(raw).ours:
            hint = "merge or close it; trueup does not rebuild what people added"
            raise self._refusal(f"pull request {number} has commits that are not trueup's", hint)
        self._push(self._mirror.fetch(), self._branch(raw), head, base, title, files)
        self._edit(raw, title=_titled(title, draft), body=body, labels=labels)

    def merge(self, number: int, *, head: str, message: str) -> str:
        return self._merge(number, head, message, by_us=True)

    def ready(self, number: int, *, head: str) -> None:
        raw = self._at(number, head)
        if _is_draft(raw):
            self._patch(number, {"title": _untitled(raw["title"])})

    def publish(self, number: int, *, head: str, checks: tuple[Check, ...]) -> None:
        self._at(number, head)
        shown = self._checks(head)
        for check in checks:
            known, _ = shown.get(check.name, (None, None))
            if known != check:
                status = {"context": check.name, "state": check.state, "description": check.summary}
                self._send("POST", f"/statuses/{head}", status)

    def close(self, number: int, *, reason: str) -> None:
        raw = self._one(number)
        if raw["state"] == "open":
            pull = self._complete(raw)
            self._end(number, reason)
            if pull.ours and self._open_on(pull.branch) is None:
                self._delete(pull.branch, pull.head)
        elif raw["merged"]:
            raise self._refusal(f"pull request {number} is merged already")

    def comment(self, number: int, text: str) -> None:
        self._one(number)
        self._send("POST", f"/issues/{number}/comments", {"body": text})

    # --- person -------------------------------------------------------------------------------------------

    def open_as_person(self, branch: str, title: str, body: str) -> int:
        there = self._open_on(branch_name(branch))
        if there is not None:
            return there
        git = self._mirror.fetch()
        refs, main = self._refs(git)
        head = refs.get(f"refs/heads/{branch}", "")
        if not head or head not in branches.brought(git, refs[main], [head]):
            hint = f"commit on it, then: git push origin {branch}"
            raise self._refusal(f"branch {branch} brings nothing to merge", hint)
        wish = {"head": branch, "base": main.removeprefix("refs/heads/"), "title": title, "body": body}
        return self._post_pull(branch, wish)[0]

    def approve(self, number: int) -> str:
        raw = self._at(number)
        head, me = str(raw["head"]["sha"]), self._account.login
        if not any((a.by, a.head) == (me, head) for a in self._approvals(number)):
            review = {"event": "APPROVED", "commit_id": head}
            try:
                self._send("POST", f"/pulls/{number}/reviews", review)
            except Refused as refused:
                if refused.status == 422 and raw["user"]["login"] == me:
                    hint = "ask another person"
                    raise self._refusal(
                        f"pull request {number} is by {me}, who cannot approve it", hint
                    ) from None
                raise
        return head

    def merge_as_person(self, number: int) -> str:
        raw = self._one(number)
        message = f"Merge pull request #{number} from {self._branch(raw)}\n\n{_untitled(raw['title'])}"
        return self._merge(number, str(raw["head"]["sha"]), message, by_us=False)

    def close_as_person(self, number: int, reason: str) -> None:
        raw = self._one(number)
        if raw["merged"]:
            raise self._refusal(f"pull request {number} is merged already")
        if raw["state"] == "open":
            self._end(number, reason)

    # --- looking ------------------------------------------------------------------------------------------

    @cached_property
    def _account(self) -> _Account:
        user = self._http.get("/user")
        return _Account(user["login"], self._identity or Identity(user["login"], user["email"]))

    def _open_ones(self) -> Iterator[_Raw]:
        return self._pages("/pulls", {"state": "open"})

    def _closed_ones(self) -> Iterator[_Raw]:
        return self._pages("/pulls", {"state": "closed", "sort": "recentclose"})

    def _open_on(self, branch: str) -> int | None:
        """The first open pull request of a branch of this repository, whoever opened it."""
        return min((raw["number"] for raw in self._open_ones() if self._branch(raw) == branch), default=None)

    def _ours_on(self, branch: str) -> Iterator[int]:
        mine = (raw for raw in self._open_ones() if raw["user"]["login"] == self._account.login)
        return (raw["number"] for raw in mine if self._branch(raw) == branch)

    def _one(self, number: int) -> _Raw:
        try:
            found: _Raw = self._get(f"/pulls/{number}")
        except Refused as refused:
            if refused.status != 404:
                raise
            hint = "reconcile pr list shows the open ones"
            raise self._refusal(f"there is no pull request {number}", hint) from None
        return found

    def _at(self, number: int, head: str | None = None) -> _Raw:
        return self._still(self._one(number), head)

    def _still(self, raw: _Raw, head: str | None) -> _Raw:
        """An open pull request, if its head is still this one."""
        number = raw["number"]
        if head is not None and raw["head"]["sha"] != commit_id(head):
            hint = "look at its new commits first"
            raise Retryable(f"pull request {number} moved on from {head[:12]}", where=self._where, hint=hint)
        if raw["state"] != "open":
            state = "merged" if raw["merged"] else "closed"
            raise self._refusal(f"pull request {number} is {state} already")
        return raw

    @staticmethod
    def _branch(raw: _Raw) -> str:
        """The head branch; as OWNER:BRANCH in a fork, also one that is gone."""
        head, name = raw["head"], str(raw["head"]["label"] or raw["head"]["ref"])
        if head["repo_id"] == raw["base"]["repo_id"]:
            return name
        owner = head["repo"]["owner"]["login"] if head.get("repo") else raw["user"]["login"]
        return f"{owner}:{name}"

    def _pull(self, raw: _Raw) -> PullRequest:
        """What the list tells of a pull request."""
        author, branch = raw["user"]["login"], self._branch(raw)
        by_us = author == self._account.login
        body = raw["body"] or ""
        merger = (raw.get("merged_by") or {}).get("login", "")
        return PullRequest(
            number=raw["number"],
            state="merged" if raw["merged"] else raw["state"],
            branch=branch,
            head=raw["head"]["sha"],
            base=raw["base"]["ref"],
            title=_untitled(raw["title"]),
            author=author,
            ours=by_us and branch.startswith(_OURS),
            draft=_is_draft(raw),
            body=body,
            marker=Marker.find(body) if by_us else None,
            mergeable=raw["state"] == "open" and (raw["mergeable"] or _is_draft(raw)),
            opened=raw["created_at"],
            closed=raw["closed_at"],
            closed_by=merger,
            closed_by_us=bool(merger) and merger == self._account.login,
            merge_commit=(raw["merge_commit_sha"] or "") if raw["merged"] else "",
        )

    def _complete(self, raw: _Raw) -> PullRequest:
        """With what Git tells of an open one, and who closed one that is not."""
        pull = self._pull(raw)
        if pull.state != "open":
            return self._ended(raw)
        git, tip = self._known(raw)
        changes = branches.brought(git, tip, [pull.head])
        ours = pull.ours and branches.only_by(self._account.identity, changes, pull.head)
        mergeable = branches.merge_cleanly(git, tip, pull.head)
        return pull.model_copy(update={"ours": ours, "mergeable": mergeable})

    def _ended(self, raw: _Raw) -> PullRequest:
        """With who closed it: the last to do so in its timeline, from the instant it was closed.

        The list does not name who merged; the pull request itself does.
        """
        pull = self._pull(raw)
        if pull.state == "merged" or pull.closed is None:
            return pull if pull.closed_by else self._pull(self._one(pull.number))
        since = (pull.closed - timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
        events = self._get(f"/issues/{pull.number}/timeline", {"since": since, "limit": _PAGE}) or []
        who = next((e["user"]["login"] for e in reversed(events) if e["type"] == "close" and e["user"]), "")
        return pull.model_copy(update={"closed_by": who, "closed_by_us": who == self._account.login})

    def _known(self, raw: _Raw) -> tuple[GitCommand, str]:
        """The mirror with both ends of a pull request in it, and the tip of its base."""
        head, tip = commit_id(raw["head"]["sha"]), commit_id(raw["base"]["sha"])
        git = self._mirror.git()
        for attempt in range(2):
            if all(git.objects([f"{head}^{{commit}}", f"{tip}^{{commit}}"], contents=False)):
                return git, tip
            git = self._mirror.fetch() if not attempt else git
        hint = "look again"
        raise Retryable(f"pull request {raw['number']} moved while it was read", where=self._where, hint=hint)

    def _refs(self, git: GitCommand) -> tuple[Mapping[str, str], str]:
        """The branches by ref, and the ref of the default branch, which is one of them."""
        refs, main = git.refs("refs/heads")
        if not main:
            raise self._refusal("the repository is empty", "push a first commit to its default branch")
        return refs, main

    def _approvals(self, number: int) -> Iterator[Approval]:
        for review in self._pages(f"/pulls/{number}/reviews", {}):
            if review["state"] == "APPROVED" and review["official"] and not review["dismissed"]:
                yield Approval(by=review["user"]["login"], head=review["commit_id"], at=review["submitted_at"])

    def _checks(self, head: str) -> dict[str, tuple[Check, int]]:
        """The latest status of ours for each context, with its number."""
        found: dict[str, tuple[Check, int]] = {}
        for status in self._pages(f"/commits/{commit_id(head)}/statuses", {}):
            name, number = status["context"], status["id"]
            by = (status.get("creator") or {}).get("login")
            if by == self._account.login and (name not in found or found[name][1] < number):
                state = _CHECKS.get(status["status"], "failure")
                found[name] = Check(name=name, state=state, summary=status["description"] or ""), number
        return found

    # --- writing ------------------------------------------------------------------------------------------

    def _build(self, branch: str, base: str, title: str, files: tuple[FileChange, ...]) -> str:
        """The branch at a commit of ours, over our own earlier ones only; the default branch's name."""
        git = self._mirror.fetch()
        refs, main = self._refs(git)
        old = refs.get(f"refs/heads/{branch}", "")
        changes = branches.brought(git, refs[main], [old] if old else [])
        if not branches.only_by(self._account.identity, changes, old):
            hint = f"open a pull request of it (reconcile pr open {branch}), or delete it"
            raise self._refusal(f"branch {branch} has commits that are not trueup's", hint)
        self._push(git, branch, old, base, title, files)
        return main.removeprefix("refs/heads/")

    def _push(
        self, git: GitCommand, branch: str, old: str, base: str, title: str, files: tuple[FileChange, ...]
    ) -> None:
        """The branch from ``old`` to a commit on ``base``; not at all where it has that already."""
        refs, main = self._refs(git)
        who, at = self._account.identity, self._clock()
        new = branches.rebuilt(git, refs[main], base, title, files, who=who, at=at, where=self._where)
        names = [f"{new}^{{tree}}", f"{old or new}^{{tree}}", f"{old or new}^1"]
        tree, old_tree, old_base = (found and found.oid for found in git.objects(names, contents=False))
        if not old or (tree, base) != (old_tree, old_base):
            self._mirror.push(branch, old=old, new=new)

    def _post_pull(self, branch: str, wish: Mapping[str, Any]) -> tuple[int, bool]:
        """Open it, True; or adopt what is there after a refusal or an unclear answer, False."""
        try:
            return int(self._send("POST", "/pulls", wish)["number"]), True
        except (Refused, Retryable) as error:
            if isinstance(error, Refused) and error.status != 409:
                raise
            there = self._open_on(branch)
            if there is None:
                raise
            return there, False

    def _ask_for_review(self, number: int, reviewers: Iterable[str]) -> None:
        """Ask each account, or ORGANISATION/TEAM. Who cannot be asked is named in a comment: no error."""
        wanted = {reviewer.rpartition("/")[2]: reviewer for reviewer in reviewers}
        wanted.pop(self._account.login, None)
        for name, reviewer in wanted.items():
            try:
                field = "team_reviewers" if "/" in reviewer else "reviewers"
                self._send("POST", f"/pulls/{number}/requested_reviewers", {field: [name]})
            except Refused as refused:
                if refused.status not in (403, 404, 422):
                    raise
        if not wanted:
            return
        raw = self._one(number)  # a team that the forge does not know is no error to it
        asked = {user["login"].lower() for user in raw.get("requested_reviewers") or ()}
        asked |= {team["name"].lower() for team in raw.get("requested_reviewers_teams") or ()}
        unknown = [f"`{reviewer}`" for name, reviewer in wanted.items() if name.lower() not in asked]
        if unknown:
            self.comment(
                number, f"No review could be asked of {', '.join(unknown)}: unknown here, or without access."
            )

    def _edit(self, raw: _Raw, *, title: str, body: str, labels: tuple[str, ...]) -> None:
        """Title, body and our own labels, as far as they differ. Labels of people stay."""
        changed: dict[str, Any] = {} if raw["title"] == title else {"title": title}
        changed |= {} if (raw["body"] or "") == body else {"body": body}
        present = {label["name"]: label for label in raw["labels"] or ()}
        kept = {name: label for name, label in present.items() if label["description"] != _LABEL}
        if {*kept, *labels} != set(present):
            theirs = [label["id"] for name, label in kept.items() if name not in labels]
            changed["labels"] = [*theirs, *self._label_ids(labels).values()]
        if changed:
            self._patch(raw["number"], changed)

    def _label_ids(self, names: Iterable[str]) -> dict[str, int]:
        """Name -> number; what is missing is made."""
        wanted = dict.fromkeys(names)
        if not wanted:
            return {}
        known: dict[str, int] = {}
        for label in self._pages("/labels", {}):
            known[label["name"]] = min(label["id"], known.get(label["name"], label["id"]))
        for name in wanted:
            if name not in known:
                wish = {"name": name, "color": "#5319e7", "description": _LABEL}
                known[name] = self._send("POST", "/labels", wish)["id"]
        return {name: known[name] for name in wanted}

    def _merge(self, number: int, head: str, message: str, *, by_us: bool) -> str:
        """A merge of this head only. A refusal is looked into: the forge says 405 for very different things."""
        title, _, rest = message.partition("\n")
        wish = {"merge_title_field": title, "merge_message_field": rest.strip(), "head_commit_id": head}
        said = ""
        for turn in range(_TURNS):
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
            said = self._try_merge(
                number, {**wish, "Do": "merge", "delete_branch_after_merge": by_us and pull.ours}
            )
            if not said:
                return str(self._one(number)["merge_commit_sha"])
        hint = f"see what the protection of {pull.base} asks for; it is tried again"
        what = f"pull request {number} is not merged by the forge yet: {said}"
        raise Retryable(what, where=self._where, hint=hint)

    def _try_merge(self, number: int, wish: Mapping[str, Any]) -> str:
        """Why it was not merged; empty where it was, also after an unclear answer."""
        try:
            self._send("POST", f"/pulls/{number}/merge", wish)
        except Refused as refused:
            if refused.status not in (405, 409):
                raise
            return refused.message or f"status {refused.status}"
        except Retryable:
            if not self._one(number)["merged"]:
                raise
        return ""

    def _end(self, number: int, reason: str) -> None:
        """Say why, then close. Not said twice where it was cut off in between."""
        me = self._account.login
        comments = self._get(f"/issues/{number}/comments")
        last = [(c["user"]["login"], c["body"]) for c in comments[-1:]]
        if reason and last != [(me, reason)]:
            self._send("POST", f"/issues/{number}/comments", {"body": reason})
        self._patch(number, {"state": "closed"})

    def _delete(self, branch: str, head: str) -> None:
        """Our branch, if it is still at ``head``: what a person pushed meanwhile stays."""
        try:
            self._mirror.push(branch, old=head, new="")
        except LostRace:
            return

    def _refusal(self, what: str, hint: str = "") -> Terminal:
        return Terminal(what, where=self._where, hint=hint)

    # --- HTTP ---------------------------------------------------------------------------------------------

    def _get(self, path: str, parameters: Parameters | None = None) -> Any:
        return self._http.get(self._repo + path, parameters)

    def _pages(self, path: str, parameters: Parameters) -> Iterator[Any]:
        return self._http.pages(self._repo + path, {**parameters, "limit": _PAGE}, most=_PAGES)

    def _send(self, method: str, path: str, body: Any) -> Any:
        return self._http.send(method, self._repo + path, body)

    def _patch(self, number: int, changed: Mapping[str, Any]) -> None:
        self._send("PATCH", f"/pulls/{number}", changed)


def _is_draft(raw: _Raw) -> bool:
    return bool(raw["draft"]) or str(raw["title"]).startswith(_WIP)


def _titled(title: str, draft: bool) -> str:
    return (f"{_WIP}{title}" if draft else title)[:_TITLE]


def _untitled(title: str) -> str:
    return title.removeprefix(_WIP)
