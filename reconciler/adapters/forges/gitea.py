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
permissions are the account's, whatever the     Git asks whether it may push, and pushes nothing (a dry run)
scopes of the token
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
from reconciler.adapters.forges.http import ForgeClient, Refused
from reconciler.adapters.forges.rest import LABEL, OURS, Raw, RestForge
from reconciler.adapters.git_command import GitCommand, Identity, LostRace, branch_name, commit_id
from reconciler.adapters.mirror import Credentials, Mirror
from reconciler.core.errors import Retryable
from reconciler.core.observed import Approval, Check, Marker, PullRequest
from reconciler.core.plan import FileChange

if TYPE_CHECKING:
    import httpx

_WIP = "WIP: "
_TITLE = 255
_CHECKS: Mapping[str, Literal["success", "pending", "failure"]] = {"success": "success", "pending": "pending"}


class _Account(NamedTuple):
    """Who the token is."""

    login: str
    identity: Identity


class GiteaForge(RestForge):
    """``repository`` (OWNER/NAME) of the Gitea at ``url``, as the account of ``token``.

    ``token`` is called at each use, and ``token_from`` says where it comes from. ``cache`` is where mirrors
    are: a source of the same cache with :attr:`remote` for its address shares the mirror. ``identity`` is whom
    our commits name, by default the account: a branch with anyone else's commits is not ours any more.
    ``transport`` and ``sleep`` are for tests.
    """

    page = ("limit", 50)
    approval = "APPROVED"
    team = ("requested_reviewers_teams", "name")
    twice = 409

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
        http = ForgeClient(
            f"{base}/api/v1", token, token_from=token_from, transport=transport, sleep=sleep, clock=clock
        )
        super().__init__(http, repository, where=f"{base}/{repository}", sleep=sleep)
        self._mirror = Mirror(self.remote, cache, credentials=self.credentials)
        self._clock = clock
        self._identity = identity

    # --- reader -------------------------------------------------------------------------------------------

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
        found: list[Raw] = []
        for number, raw in enumerate(self._closed_ones()):
            if found and number % self.page[1] == 0:
                break
            found += [raw] if self._branch(raw) == branch else []
        newest_first = sorted(found, key=lambda raw: -int(raw["number"]))
        return tuple(self._ended(raw) for raw in newest_first)

    def difference(self, number: int) -> str:
        raw = self._one(number)
        git, tip = self._known(raw)
        return branches.difference(git, tip, self._pull(raw))

    # --- writer -------------------------------------------------------------------------------------------

    def ready(self, number: int, *, head: str) -> None:
        raw = self._at(number, head)
        if _is_draft(raw):
            self._patch(number, {"title": _untitled(raw["title"])})

    def _takes_push(self) -> bool:
        return self._mirror.may_push()

    # --- looking ------------------------------------------------------------------------------------------

    @property
    def login(self) -> str:
        return self._account.login

    @cached_property
    def _account(self) -> _Account:
        user = self._http.get("/user")
        return _Account(user["login"], self._identity or Identity(user["login"], user["email"]))

    def _closed_ones(self) -> Iterator[Raw]:
        return self._pages("/pulls", {"state": "closed", "sort": "recentclose"})

    @staticmethod
    def _branch(raw: Raw) -> str:
        head, name = raw["head"], str(raw["head"]["label"] or raw["head"]["ref"])
        if head["repo_id"] == raw["base"]["repo_id"]:
            return name
        owner = head["repo"]["owner"]["login"] if head.get("repo") else raw["user"]["login"]
        return f"{owner}:{name}"

    def _pull(self, raw: Raw) -> PullRequest:
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
            ours=by_us and branch.startswith(OURS),
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

    def _is_ours(self, raw: Raw) -> bool:
        return self._complete(raw).ours

    def _complete(self, raw: Raw) -> PullRequest:
        pull = self._pull(raw)
        if pull.state != "open":
            return self._ended(raw)
        git, tip = self._known(raw)
        changes = branches.brought(git, tip, [pull.head])
        ours = pull.ours and branches.only_by(self._account.identity, changes, pull.head)
        mergeable = branches.merge_cleanly(git, tip, pull.head)
        return pull.model_copy(update={"ours": ours, "mergeable": mergeable})

    def _ended(self, raw: Raw) -> PullRequest:
        """With who closed it: the last to do so in its timeline, from the instant it was closed.

        The list does not name who merged; the pull request itself does.
        """
        pull = self._pull(raw)
        if pull.state == "merged" or pull.closed is None:
            return pull if pull.closed_by else self._pull(self._one(pull.number))
        since = (pull.closed - timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
        events = self._get(f"/issues/{pull.number}/timeline", {"since": since, "limit": self.page[1]}) or []
        who = next((e["user"]["login"] for e in reversed(events) if e["type"] == "close" and e["user"]), "")
        return pull.model_copy(update={"closed_by": who, "closed_by_us": who == self._account.login})

    def _known(self, raw: Raw) -> tuple[GitCommand, str]:
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

    def _checks(self, head: str) -> Mapping[str, Check]:
        found: dict[str, tuple[int, Check]] = {}
        for status in self._pages(f"/commits/{commit_id(head)}/statuses", {}):
            name, number = status["context"], status["id"]
            by = (status.get("creator") or {}).get("login")
            if by == self.login and (name not in found or found[name][0] < number):
                state = _CHECKS.get(status["status"], "failure")
                found[name] = number, Check(name=name, state=state, summary=status["description"] or "")
        return {name: check for name, (_, check) in found.items()}

    # --- writing ------------------------------------------------------------------------------------------

    def _brings(self, branch: str) -> str:
        git = self._mirror.fetch()
        refs, main = self._refs(git)
        head = refs.get(f"refs/heads/{branch}", "")
        brought = branches.brought(git, refs[main], [head] if head else [])
        return main.removeprefix("refs/heads/") if head in brought else ""

    def _build(self, branch: str, base: str, title: str, files: tuple[FileChange, ...]) -> str:
        git = self._mirror.fetch()
        refs, main = self._refs(git)
        old = refs.get(f"refs/heads/{branch}", "")
        changes = branches.brought(git, refs[main], [old] if old else [])
        if not branches.only_by(self._account.identity, changes, old) and not self._left(branch, old):
            raise self._not_ours(branch)
        self._push(git, branch, old, base, title, files)
        return main.removeprefix("refs/heads/")

    def _rebuild(self, branch: str, head: str, base: str, title: str, files: tuple[FileChange, ...]) -> None:
        self._push(self._mirror.fetch(), branch, head, base, title, files)

    def _wish(self, branch: str, into: str, title: str, body: str, draft: bool, labels: tuple[str, ...]) -> Raw:
        numbers = list(self._label_ids(labels).values())
        return {"head": branch, "base": into, "title": _titled(title, draft), "body": body, "labels": numbers}

    def _show(self, head: str, check: Check) -> None:
        status = {"context": check.name, "state": check.state, "description": check.summary}
        self._send("POST", f"/statuses/{head}", status)

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

    def _edit(self, raw: Raw, *, title: str, body: str, draft: bool, labels: tuple[str, ...]) -> None:
        title = _titled(title, draft)
        changed: dict[str, Any] = {} if raw["title"] == title else {"title": title}
        changed |= {} if (raw["body"] or "") == body else {"body": body}
        present = {label["name"]: label for label in raw["labels"] or ()}
        kept = {name: label for name, label in present.items() if label["description"] != LABEL}
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
                wish = {"name": name, "color": "#5319e7", "description": LABEL}
                known[name] = self._send("POST", "/labels", wish)["id"]
        return {name: known[name] for name in wanted}

    def _try_merge(self, pull: PullRequest, message: str, by_us: bool) -> str:
        title, _, rest = message.partition("\n")
        wish = {
            "Do": "merge",
            "merge_title_field": title,
            "merge_message_field": rest.strip(),
            "head_commit_id": pull.head,
            "delete_branch_after_merge": by_us and pull.ours,
        }
        try:
            self._send("POST", f"/pulls/{pull.number}/merge", wish)
        except Refused as refused:
            if refused.status not in (405, 409):
                raise
            return refused.message or f"status {refused.status}"
        except Retryable:
            if not self._one(pull.number)["merged"]:
                raise
        return ""

    def _delete(self, branch: str, head: str) -> None:
        try:
            self._mirror.push(branch, old=head, new="")
        except LostRace:
            return


def _is_draft(raw: Raw) -> bool:
    return bool(raw["draft"]) or str(raw["title"]).startswith(_WIP)


def _titled(title: str, draft: bool) -> str:
    return (f"{_WIP}{title}" if draft else title)[:_TITLE]


def _untitled(title: str) -> str:
    return title.removeprefix(_WIP)
