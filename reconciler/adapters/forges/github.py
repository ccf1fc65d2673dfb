"""Pull requests on GitHub: the ports ForgeReader, ForgeWriter and ForgePerson over its REST API (2022-11-28).

Everything is HTTP, commits too. What GitHub does otherwise than one would expect, and what is done about it:

==============================================  =======================================================
REST moves a branch without looking at it       GraphQL's `updateRefs` moves it from one commit, or not at all
drafts begin and end by GraphQL only            `convertPullRequestToDraft`, `markPullRequestReadyForReview`
GraphQL refuses with status 200                 its first error counts; one without a type is a passing failure
a commit of an App is shown as verified if it   none is named; a commit is ours if GitHub says that it is by our
names no author                                 account, and if it is verified where we are an App
whether it merges is null while GitHub finds    asked again a few times; then it is Retryable
out, and absent from lists
a second pull request of a branch is refused    what is there is adopted
a merge is refused by 405 for a conflict and    looked at again a few times; what is left is Retryable with
for what the branch's protection asks           GitHub's own words
check runs are for Apps only                    commit statuses where we are no App; the newest of a name counts
anybody may approve                             an approval counts if it is the reviewer's latest opinion and
                                                they may write
lists do not say who closed it                  the issue of the same number does
a tree cannot lose a file that it has not       such a deletion is left out
==============================================  =======================================================

An App needs the repository permissions Contents, Pull requests, Issues and Checks (read and write) and Metadata
(read); a fine-grained token Commit statuses in place of Checks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from reconciler.adapters import branches
from reconciler.adapters.forges.github_app import HEADERS, GitHubApp
from reconciler.adapters.forges.http import ForgeClient, Refused
from reconciler.adapters.forges.rest import LABEL, OURS, TURNS, Raw, RestForge, author
from reconciler.adapters.git_command import LostRace, branch_name, commit_id, repository_path
from reconciler.adapters.mirror import Credentials
from reconciler.core.errors import Retryable, Terminal
from reconciler.core.observed import Approval, Check, Marker, PullRequest
from reconciler.core.plan import FileChange

if TYPE_CHECKING:
    import httpx

_NOTHING = "0" * 40
_PLATFORM = "web-flow"
"""Who commits what GitHub makes for an account: the committer of an App's commits."""
_TITLE = 256
_MANY = 100
_RUNS: Mapping[str, Mapping[str, str]] = {
    "pending": {"status": "in_progress"},
    "success": {"status": "completed", "conclusion": "success"},
    "failure": {"status": "completed", "conclusion": "failure"},
}
_OPINIONS = ("APPROVED", "CHANGES_REQUESTED", "DISMISSED")
_WRITERS = ("admin", "write")

_WHO = "query { viewer { login } }"
_MOVE = "mutation($input: UpdateRefsInput!) { updateRefs(input: $input) { clientMutationId } }"
_READY = (
    "mutation($id: ID!) { markPullRequestReadyForReview(input: {pullRequestId: $id}) { clientMutationId } }"
)
_DRAFT = "mutation($id: ID!) { convertPullRequestToDraft(input: {pullRequestId: $id}) { clientMutationId } }"


class GitHubForge(RestForge):
    """``repository`` (OWNER/NAME) on GitHub, whose API is at ``url``: as an App, or as the account of a token.

    ``token`` is asked at each use, and ``token_from`` says where it comes from. ``transport`` and ``sleep`` are
    for tests.
    """

    page = ("per_page", _MANY)
    approval = "APPROVE"
    team = ("requested_teams", "slug")
    twice = 422

    def __init__(
        self,
        url: str,
        repository: str,
        token: GitHubApp | Callable[[], str],
        *,
        token_from: str,
        clock: Callable[[], datetime],
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        base = url.rstrip("/")
        self.remote = f"{_site(base)}/{repository}.git"
        self.credentials = Credentials(token, token_from)
        self._owner = repository.partition("/")[0]
        self._app = token if isinstance(token, GitHubApp) else None

        def client(address: str) -> ForgeClient:
            return ForgeClient(
                address,
                token,
                token_from=token_from,
                headers=HEADERS,
                transport=transport,
                sleep=sleep,
                clock=clock,
            )

        super().__init__(client(base), repository, where=f"{_site(base)}/{repository}", sleep=sleep)
        self._graphql = client(base.removesuffix("/v3"))  # it has a budget of its own

    # --- reader -------------------------------------------------------------------------------------------

    def closed(self, branch: str) -> tuple[PullRequest, ...]:
        wish = {"state": "closed", "head": f"{self._owner}:{branch_name(branch)}"}
        found = [raw for raw in self._pages("/pulls", wish) if self._branch(raw) == branch]
        newest_first = sorted(found, key=lambda raw: -int(raw["number"]))
        return tuple(self._ended(raw) for raw in newest_first)

    def difference(self, number: int) -> str:
        self._one(number)
        return branches.without_evidence(
            self._http.text(f"{self._repo}/pulls/{number}", accept="application/vnd.github.diff")
        )

    # --- writer -------------------------------------------------------------------------------------------

    def ready(self, number: int, *, head: str) -> None:
        raw = self._at(number, head)
        if raw["draft"]:
            self._graph(_READY, id=raw["node_id"])

    # --- looking ------------------------------------------------------------------------------------------

    @cached_property
    def login(self) -> str:
        return self._app.login if self._app else str(self._graph(_WHO)["viewer"]["login"])

    @property
    def _home(self) -> Raw:
        """The repository's own record."""
        found: Raw = self._get("")
        return found

    def _closed_ones(self) -> Iterator[Raw]:
        return self._pages("/pulls", {"state": "closed"})

    def _branch(self, raw: Raw) -> str:
        head = raw["head"]
        here = head["repo"] is not None and head["repo"]["id"] == raw["base"]["repo"]["id"]
        return str(head["ref"] if here else head["label"] or f"{author(raw)}:{head['ref']}")

    def _pull(self, raw: Raw) -> PullRequest:
        by, branch = author(raw), self._branch(raw)
        body = raw["body"] or ""
        merged = bool(raw["merged_at"])
        return PullRequest(
            number=raw["number"],
            state="merged" if merged else raw["state"],
            branch=branch,
            head=raw["head"]["sha"],
            base=raw["base"]["ref"],
            title=raw["title"],
            author=by,
            ours=by == self.login and branch.startswith(OURS),
            draft=bool(raw["draft"]),
            body=body,
            marker=Marker.find(body) if by == self.login else None,
            mergeable=raw["state"] == "open" and raw.get("mergeable") is not False,
            opened=raw["created_at"],
            closed=raw["closed_at"],
            merge_commit=(raw["merge_commit_sha"] or "") if merged else "",
        )

    def _complete(self, raw: Raw) -> PullRequest:
        pull = self._pull(raw)
        if pull.state != "open":
            return self._ended(raw)
        return pull.model_copy(update={"mergeable": self._mergeable(raw), "ours": self._is_ours(raw)})

    def _is_ours(self, raw: Raw) -> bool:
        pull = self._pull(raw)
        return pull.ours and self._only_ours(pull.base, pull.head)

    def _mergeable(self, raw: Raw) -> bool:
        number, head = raw["number"], raw["head"]["sha"]
        for turn in range(TURNS):
            if raw["mergeable"] is not None:
                return bool(raw["mergeable"])
            self._sleep(0.25 * 2**turn)
            raw = self._at(number, head)
        what = f"GitHub still finds out whether pull request {number} merges"
        raise Retryable(what, where=self._where, hint="look again")

    def _ended(self, raw: Raw) -> PullRequest:
        """With who closed it."""
        who = (self._get(f"/issues/{raw['number']}")["closed_by"] or {}).get("login", "")
        update = {"closed_by": who, "closed_by_us": who == self.login}
        return self._pull(raw).model_copy(update=update)

    def _only_ours(self, base: str, head: str) -> bool:
        """Whether every commit that ``head`` brings to the branch ``base`` is ours; never of very many."""
        brought = self._get(f"/compare/{quote(base)}...{commit_id(head)}", {"per_page": _MANY})
        commits = brought["commits"]
        return brought["total_commits"] == len(commits) and all(self._is_by_us(commit) for commit in commits)

    def _is_by_us(self, commit: Raw) -> bool:
        by, committer = ((commit[role] or {}).get("login") for role in ("author", "committer"))
        verified = bool((commit["commit"].get("verification") or {}).get("verified"))
        return by == self.login and committer in (self.login, _PLATFORM) and (verified or not self._app)

    def _tip(self, branch: str) -> str:
        """The commit of a branch; empty if there is none."""
        found = self._if_there(f"/git/ref/heads/{quote(branch)}")
        return str(found["object"]["sha"]) if found else ""

    def _contains(self, tip: str, commit: str) -> bool:
        """Whether ``commit`` is ``tip`` or before it."""
        if tip == commit_id(commit):
            return True
        # Its files are on the first page, and are not wanted.
        found = self._if_there(f"/compare/{commit}...{tip}", {"per_page": 1, "page": 2})
        return found is not None and found["status"] == "ahead"

    def _if_there(self, path: str, parameters: Mapping[str, str | int] | None = None) -> Raw | None:
        try:
            found: Raw = self._get(path, parameters)
        except Refused as refused:
            if refused.status != 404:
                raise
            return None
        return found

    def _approvals(self, number: int) -> Iterator[Approval]:
        latest: dict[str, Raw] = {}
        for review in self._pages(f"/pulls/{number}/reviews", {}):  # oldest first
            if review["state"] in _OPINIONS and review["user"]:
                latest[review["user"]["login"]] = review
        for by, review in latest.items():
            if review["state"] == "APPROVED" and review["commit_id"] and self._may_write(by):
                yield Approval(by=by, head=review["commit_id"], at=review["submitted_at"])

    def _may_write(self, login: str) -> bool:
        found = self._if_there(f"/collaborators/{quote(login)}/permission")
        return found is not None and found["permission"] in _WRITERS

    def _checks(self, head: str) -> Mapping[str, Check]:
        shown = self._runs(head) if self._app else self._statuses(head)
        return {check.name: check for _, check in sorted(shown, key=lambda numbered: numbered[0])}

    def _runs(self, head: str) -> Iterator[tuple[int, Check]]:
        assert self._app is not None
        path = f"/commits/{commit_id(head)}/check-runs"
        wish: dict[str, str | int] = {"filter": "all", "app_id": self._app.number}
        for run in self._pages(path, wish, within="check_runs"):
            if run["app"] is None or run["app"]["id"] != self._app.number:
                continue
            state = "pending" if run["status"] != "completed" else run["conclusion"]
            yield run["id"], _check(run["name"], state, run["output"]["title"])

    def _statuses(self, head: str) -> Iterator[tuple[int, Check]]:
        for status in self._pages(f"/commits/{commit_id(head)}/statuses", {}):
            if (status["creator"] or {}).get("login") == self.login:
                yield status["id"], _check(status["context"], status["state"], status["description"])

    # --- writing ------------------------------------------------------------------------------------------

    def _brings(self, branch: str) -> str:
        into, tip = str(self._home["default_branch"]), self._tip(branch)
        found = self._if_there(f"/compare/{quote(into)}...{tip}", {"per_page": 1, "page": 2}) if tip else None
        return into if found and found["ahead_by"] else ""

    def _build(self, branch: str, base: str, title: str, files: tuple[FileChange, ...]) -> str:
        into, old = str(self._home["default_branch"]), self._tip(branch)
        if old and not self._only_ours(into, old) and not self._left(branch, old):
            raise self._not_ours(branch)
        self._rebuild(branch, old, base, title, files)
        return into

    def _rebuild(self, branch: str, head: str, base: str, title: str, files: tuple[FileChange, ...]) -> None:
        if not self._contains(self._tip(self._home["default_branch"]), base):
            raise branches.not_on_main(base, self._where)
        tree = self._tree(base, files)
        if head:
            old = self._get(f"/git/commits/{head}")
            if (old["tree"]["sha"], [parent["sha"] for parent in old["parents"]]) == (tree, [base]):
                return
        commit = self._send("POST", "/git/commits", {"message": title, "tree": tree, "parents": [base]})
        self._move(branch, head, commit["sha"])

    def _tree(self, base: str, files: tuple[FileChange, ...]) -> str:
        """The tree of ``base`` with these files changed."""
        known = str(self._get(f"/git/commits/{base}")["tree"]["sha"])
        entries: list[dict[str, str | None]] = []
        for file in files:
            entry = {"path": repository_path(file.path), "mode": "100644", "type": "blob"}
            if file.content is not None:
                entries.append({**entry, "content": file.content})
            elif self._if_there(f"/contents/{quote(file.path)}", {"ref": base}) is not None:
                entries.append({**entry, "sha": None})
        if not entries:
            return known
        return str(self._send("POST", "/git/trees", {"base_tree": known, "tree": entries})["sha"])

    def _move(self, branch: str, old: str, new: str) -> None:
        """The branch from ``old`` to ``new``; empty is none. LostRace where it was elsewhere."""
        update = {
            "name": f"refs/heads/{branch}",
            "beforeOid": old or _NOTHING,
            "afterOid": new or _NOTHING,
            "force": True,
        }
        try:
            self._graph(_MOVE, input={"repositoryId": self._home["node_id"], "refUpdates": [update]})
        except (Terminal, Retryable):
            there = self._tip(branch)
            if there == new:
                return
            if there != old:
                what, hint = f"branch {branch} moved on from {old[:12] or 'nothing'}", "look at its new commits"
                raise LostRace(what, where=self._where, hint=hint) from None
            raise

    def _delete(self, branch: str, head: str) -> None:
        try:
            self._move(branch, head, "")
        except LostRace:
            return

    def _wish(self, branch: str, into: str, title: str, body: str, draft: bool, labels: tuple[str, ...]) -> Raw:
        wish = {"head": branch, "base": into, "title": title[:_TITLE], "body": body, "draft": draft}
        return {**wish, "labels": labels}

    def _post_pull(self, branch: str, wish: Raw) -> tuple[int, bool]:
        labels = wish.get("labels", ())
        number, made = super()._post_pull(branch, {k: v for k, v in wish.items() if k != "labels"})
        if made and labels:
            self._define(labels)
            self._send("POST", f"/issues/{number}/labels", {"labels": list(labels)})
        return number, made

    def _edit(self, raw: Raw, *, title: str, body: str, draft: bool, labels: tuple[str, ...]) -> None:
        title = title[:_TITLE]
        changed = {} if raw["title"] == title else {"title": title}
        changed |= {} if (raw["body"] or "") == body else {"body": body}
        if changed:
            self._patch(raw["number"], changed)
        present = {label["name"] for label in raw["labels"]}
        theirs = {label["name"] for label in raw["labels"] if label["description"] != LABEL}
        if present != {*theirs, *labels}:
            self._define(name for name in labels if name not in present)
            wanted, path = sorted({*theirs, *labels}), f"/issues/{raw['number']}/labels"
            self._send("PUT" if wanted else "DELETE", path, {"labels": wanted} if wanted else None)
        if bool(raw["draft"]) != draft:
            self._graph(_DRAFT if draft else _READY, id=raw["node_id"])

    def _define(self, labels: Iterator[str] | tuple[str, ...]) -> None:
        """Labels of the repository, with a description that says whose they are; there already is fine."""
        for name in labels:
            try:
                self._send("POST", "/labels", {"name": name, "color": "5319e7", "description": LABEL})
            except Refused as refused:
                if refused.status != 422:
                    raise

    def _show(self, head: str, check: Check) -> None:
        if self._app is None:
            status = {"context": check.name, "state": check.state, "description": check.summary}
            self._send("POST", f"/statuses/{head}", status)
            return
        said = {"output": {"title": check.summary, "summary": check.summary}} if check.summary else {}
        self._send("POST", "/check-runs", {"name": check.name, "head_sha": head, **_RUNS[check.state], **said})

    def _try_merge(self, pull: PullRequest, message: str, by_us: bool) -> str:
        title, _, rest = message.partition("\n")
        wish = {
            "merge_method": "merge",
            "sha": pull.head,
            "commit_title": title,
            "commit_message": rest.strip(),
        }
        try:
            self._send("PUT", f"/pulls/{pull.number}/merge", wish)
        except Refused as refused:
            if refused.status not in (405, 409, 422):
                raise
            return refused.message or f"status {refused.status}"
        except Retryable:
            if not self._one(pull.number)["merged"]:
                raise
        if by_us and pull.ours:
            self._delete(pull.branch, pull.head)
        return ""

    # --- GraphQL ------------------------------------------------------------------------------------------

    def _graph(self, query: str, **variables: Any) -> Any:
        """The data of one request."""
        answer = self._graphql.send("POST", "/graphql", {"query": query, "variables": variables})
        errors = answer.get("errors")
        if not errors:
            return answer["data"]
        asked = query.partition("{")[2].split("(")[0].split()[0]
        what = f"GitHub refused {asked}: {str(errors[0].get('message', ''))[:300]}"
        if errors[0].get("type", "RATE_LIMITED") == "RATE_LIMITED":
            raise Retryable(what, where=self._where, hint="it is tried again")
        raise self._refusal(what, "give the App or the account the right to it")


def _site(url: str) -> str:
    """Where its repositories are, from where its API is."""
    place = urlsplit(url)
    return f"{place.scheme}://{place.netloc.removeprefix('api.') if not place.path else place.netloc}"


def _check(name: str, state: str | None, summary: str | None) -> Check:
    known = {"success": "success", "pending": "pending"}.get(state or "", "failure")
    return Check.model_validate({"name": name, "state": known, "summary": (summary or "")[:140]})
