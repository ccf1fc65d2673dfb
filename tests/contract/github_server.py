"""A GitHub for tests: its REST and GraphQL answers over a bare repository, as a transport of httpx.

As strict as GitHub is documented to be: a second pull request of a branch is refused, a merge is of the head
that is named, a branch moves from one commit to another or not at all, nobody approves their own. Every request
is checked against GitHub's OpenAPI description first.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256

from tests.contract import github_requests

Answer = tuple[int, Any]
APP, INSTALLATION, BOT = 7, 70, "trueup-app[bot]"
KEY: RSAPrivateKey = generate_private_key(65537, 2048)
_NOTHING = "0" * 40


class _No(Exception):  # noqa: N818 - an answer
    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message


class GitHub:
    """``people`` are accounts that may write; each one's token is ``token-NAME`` in lower case."""

    def __init__(self, bare: Path, repository: str = "o/r") -> None:
        self.bare, self.repository = bare, repository
        self.roles = {"trueup": "write", "Ada": "write", "Grace": "admin", BOT: "write"}
        self.tokens = {f"token-{name.lower()}": name for name in (*self.roles, "Mallory")}
        self.protected: set[str] = set()
        self.verified: set[str] = set()
        self.pulls: dict[int, dict[str, Any]] = {}
        self.comments: dict[int, dict[str, Any]] = {}
        self.reviews: list[dict[str, Any]] = []
        self.statuses: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self.labels: dict[str, str] = {}
        self.computing = 1
        """How often a look finds mergeability unknown after a change."""
        self.calls: list[str] = []
        self.before: Callable[[str], httpx.Response | None] = lambda call: None
        """Gets each call (METHOD PATH) first, and may answer it in GitHub's place."""
        self.after: Callable[[str], None] = lambda call: None
        """Gets each call when it is done, and may lose its answer by raising."""
        self.remaining = 5000
        self.minted = 0
        self._numbers = itertools.count(1)
        self._ids = itertools.count(1)
        self._lock = threading.RLock()
        self._looks: dict[int, tuple[str, int]] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            path = unquote(request.url.path)
            call = f"{request.method} {path.removeprefix(f'/repos/{self.repository}') or '/'}"
            self.calls.append(call)
            answer = self.before(call) or self._answer(request, path)
            self.after(call)
            return answer

    def _answer(self, request: httpx.Request, path: str) -> httpx.Response:
        if path != "/graphql":
            github_requests.check(request)
        body = json.loads(request.content) if request.content else {}
        try:
            who = self._who(request, path)
            status, content = self._route(request, path, who, body)
        except _No as no:
            status, content = no.status, {"message": no.message, "documentation_url": ""}
        if isinstance(content, str):
            return httpx.Response(status, text=content)
        data = b"" if content is None else json.dumps(content).encode()
        tag = f'"{hashlib.sha256(data).hexdigest()}"'
        if request.method == "GET" and request.headers.get("If-None-Match") == tag:
            return httpx.Response(304, headers={"ETag": tag})
        self.remaining -= path != "/graphql"
        headers = {"ETag": tag, "Content-Type": "application/json"}
        if path != "/graphql":
            headers["X-RateLimit-Remaining"] = str(self.remaining)
        return httpx.Response(status, content=data, headers=headers)

    def _who(self, request: httpx.Request, path: str) -> str:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        if path.startswith("/app"):
            signed, _, signature = token.rpartition(".")
            KEY.public_key().verify(_decoded(signature), signed.encode(), PKCS1v15(), SHA256())
            head, claims = (json.loads(_decoded(part)) for part in signed.split("."))
            assert head == {"alg": "RS256", "typ": "JWT"}
            assert claims["iss"] == str(APP)
            assert claims["exp"] - claims["iat"] <= 660
            return BOT
        if token not in self.tokens:
            raise _No(401, "Bad credentials")
        return self.tokens[token]

    def _route(self, request: httpx.Request, path: str, who: str, body: Any) -> Answer:
        if path == "/graphql":
            return self._graphql(who, body)
        if path == "/app":
            return 200, {"id": APP, "slug": BOT.removesuffix("[bot]")}
        if path == f"/app/installations/{INSTALLATION}/access_tokens":
            assert body == {"repositories": [self.repository.split("/")[1]]}
            self.minted += 1
            self.tokens[f"installation-{self.minted}"] = BOT
            ends = datetime.now(UTC) + timedelta(hours=1)
            return 201, {"token": f"installation-{self.minted}", "expires_at": f"{ends:%Y-%m-%dT%H:%M:%SZ}"}
        below = path.removeprefix(f"/repos/{self.repository}")
        if request.method != "GET" and self.roles.get(who) is None and not below.endswith("/reviews"):
            raise _No(403, "Resource not accessible")
        for method, pattern, name in _ROUTES:
            found = re.fullmatch(pattern, below)
            if method == request.method and found is not None:
                answer: Answer = getattr(self, name)(who, request, body, *found.groups())
                return answer
        raise _No(404, "Not Found")

    # --- Git ----------------------------------------------------------------------------------------------

    def git(self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> str:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
        done = subprocess.run(
            ["git", f"--git-dir={self.bare}", *arguments],
            input=stdin.encode(),
            env={**inherited, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **(env or {})},
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise _No(422, done.stderr.decode())
        return done.stdout.decode().rstrip("\n")

    def tip(self, branch: str) -> str:
        return self.git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")

    def _people(self, who: str, platform: bool) -> dict[str, str]:
        """Author and committer; GitHub commits in its own name for an App, and where it merges."""
        email = f"{who.lower()}@example.org"
        committer = ("GitHub", "noreply@github.com") if platform or who == BOT else (who, email)
        names = {"GIT_AUTHOR_NAME": who, "GIT_AUTHOR_EMAIL": email}
        return {**names, "GIT_COMMITTER_NAME": committer[0], "GIT_COMMITTER_EMAIL": committer[1]}

    def _commit(self, tree: str, parents: list[str], message: str, who: str, platform: bool = False) -> str:
        options = [part for parent in parents for part in ("-p", parent)]
        env = self._people(who, platform)
        made = self.git("commit-tree", *options, tree, stdin=message, env=env)
        if env["GIT_COMMITTER_NAME"] == "GitHub":
            self.verified.add(made)
        return made

    def _account(self, email: str) -> dict[str, str] | None:
        if email == "noreply@github.com":
            return {"login": "web-flow"}
        known = {f"{name.lower()}@example.org": name for name in self.roles}
        return {"login": known[email]} if email in known else None

    def _resolved(self, name: str) -> str:
        try:
            return self.git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        except _No:
            raise _No(404, "Not Found") from None

    # --- reading ------------------------------------------------------------------------------------------

    def home(self, who: str, request: httpx.Request, body: Any) -> Answer:
        found = {"id": 1, "node_id": "R_1", "default_branch": "main"}
        if who == BOT:
            return 200, found
        role = self.roles.get(who)
        permissions = {"admin": role == "admin", "push": role in ("admin", "write"), "pull": True}
        return 200, {**found, "permissions": permissions}

    def branch(self, who: str, request: httpx.Request, body: Any, branch: str) -> Answer:
        tip = self.tip(branch)
        if not tip or "\n" in tip:
            raise _No(404, "Branch not found")
        return 200, {"name": branch, "commit": {"sha": tip}, "protected": branch in self.protected}

    def ref(self, who: str, request: httpx.Request, body: Any, branch: str) -> Answer:
        tip = self.tip(branch)
        if not tip or "\n" in tip:
            raise _No(404, "Not Found")
        return 200, {"ref": f"refs/heads/{branch}", "object": {"type": "commit", "sha": tip}}

    def commit(self, who: str, request: httpx.Request, body: Any, sha: str) -> Answer:
        tree, *parents = self.git("log", "-1", "--format=%T %P", self._resolved(sha)).split()
        return 200, {"sha": sha, "tree": {"sha": tree}, "parents": [{"sha": parent} for parent in parents]}

    def compare(self, who: str, request: httpx.Request, body: Any, base: str, head: str) -> Answer:
        one, two = self._resolved(base), self._resolved(head)
        ahead = self.git("rev-list", "--reverse", two, f"^{one}").split()
        behind = self.git("rev-list", one, f"^{two}").split()
        states = {(False, False): "identical", (True, False): "ahead", (False, True): "behind"}
        size, page = int(request.url.params["per_page"]), int(request.url.params.get("page", 1))
        shown = ahead[(page - 1) * size : page * size]
        return 200, {
            "status": states.get((bool(ahead), bool(behind)), "diverged"),
            "ahead_by": len(ahead),
            "total_commits": len(ahead),
            "commits": [self._compared(oid) for oid in shown],
        }

    def _compared(self, oid: str) -> dict[str, Any]:
        by, committer = self.git("log", "-1", "--format=%ae %ce", oid).split()
        verification = {"verified": oid in self.verified}
        people = {"author": self._account(by), "committer": self._account(committer)}
        return {"sha": oid, "commit": {"verification": verification}, **people}

    def contents(self, who: str, request: httpx.Request, body: Any, path: str) -> Answer:
        name = f"{request.url.params['ref']}:{path}"
        try:
            return 200, {"sha": self.git("rev-parse", "--verify", "--quiet", name)}
        except _No:
            raise _No(404, "Not Found") from None

    def permission(self, who: str, request: httpx.Request, body: Any, login: str) -> Answer:
        return 200, {"permission": self.roles.get(login, "read")}

    # --- pull requests ------------------------------------------------------------------------------------

    def _one(self, number: str) -> dict[str, Any]:
        pull = self.pulls.get(int(number))
        if pull is None:
            raise _No(404, "Not Found")
        if pull["state"] == "open":
            tip = self.tip(pull["head"]["ref"])
            if tip:
                pull["head"]["sha"] = tip
                self.git("update-ref", f"refs/pull/{number}/head", tip)
            else:
                pull |= {"state": "closed", "closed_at": _now(), "closed_by": "Ada"}
        return pull

    def pull_list(self, who: str, request: httpx.Request, body: Any) -> Answer:
        asked = request.url.params
        every = [self._one(str(number)) for number in sorted(self.pulls, reverse=True)]
        found = [pull for pull in every if pull["state"] == asked["state"]]
        if "head" in asked:
            found = [pull for pull in found if pull["head"]["label"] == asked["head"]]
        hidden = ("mergeable", "merged", "merged_by", "comments", "closed_by")
        return 200, [{k: v for k, v in pull.items() if k not in hidden} for pull in found]

    def pull_open(self, who: str, request: httpx.Request, body: Any) -> Answer:
        branch, into = body["head"], self.tip(body["base"])
        tip = self.tip(branch)
        if not tip or not into:
            raise _No(422, "Validation Failed")
        if not self.git("rev-list", tip, f"^{into}"):
            raise _No(422, "No commits between main and it")
        there = [self._one(str(n)) for n, pull in self.pulls.items() if pull["head"]["ref"] == branch]
        if any(pull["state"] == "open" for pull in there):
            raise _No(422, "A pull request already exists")
        number = next(self._numbers)
        repo, owner = {"id": 1, "full_name": self.repository}, self.repository.split("/")[0]
        self.pulls[number] = {
            "number": number,
            "node_id": f"PR_{number}",
            "state": "open",
            "title": body["title"],
            "body": body.get("body"),
            "user": {"login": who},
            "draft": body.get("draft", False),
            "labels": [],
            "requested_reviewers": [],
            "requested_teams": [],
            "created_at": _now(),
            "closed_at": None,
            "merged_at": None,
            "merge_commit_sha": None,
            "merged": False,
            "comments": 0,
            "closed_by": None,
            "head": {
                "ref": branch,
                "label": f"{owner}:{branch}",
                "sha": tip,
                "repo": repo,
            },
            "base": {"ref": body["base"], "sha": into, "repo": repo},
        }
        return 201, self._one(str(number))

    def pull_get(self, who: str, request: httpx.Request, body: Any, number: str) -> Answer:
        pull = self._one(number)
        if "diff" in request.headers["Accept"]:
            base = f"{pull['merge_commit_sha']}^1" if pull["merged"] else pull["base"]["ref"]
            return 200, self.git("diff", f"{base}...{pull['head']['sha']}") + "\n"
        comments = sum(comment["number"] == int(number) for comment in self.comments.values())
        return 200, {**pull, "comments": comments, "mergeable": self._mergeable(pull)}

    def _mergeable(self, pull: dict[str, Any]) -> bool | None:
        if pull["state"] != "open":
            return None
        base, head = self.tip(pull["base"]["ref"]), pull["head"]["sha"]
        state, looks = self._looks.get(pull["number"], ("", 0))
        looks = looks + 1 if state == base + head else 1
        self._looks[pull["number"]] = base + head, looks
        return bool(self._merged_tree(base, head)) if looks > self.computing else None

    def _merged_tree(self, base: str, head: str) -> str:
        try:
            return self.git("merge-tree", "--write-tree", "--no-messages", base, head)
        except _No:
            return ""

    def pull_edit(self, who: str, request: httpx.Request, body: Any, number: str) -> Answer:
        pull = self._one(number)
        if body.get("state") == "closed" and pull["state"] == "open":
            pull |= {"closed_at": _now(), "closed_by": who}
        pull |= body
        return 200, pull

    def pull_merge(self, who: str, request: httpx.Request, body: Any, number: str) -> Answer:
        pull = self._one(number)
        head, base = pull["head"]["sha"], self.tip(pull["base"]["ref"])
        if pull["state"] != "open":
            raise _No(405, "Pull Request is not mergeable")
        if body["sha"] != head:
            raise _No(409, "Head branch was modified. Review and try the merge again.")
        tree = self._merged_tree(base, head)
        if pull["draft"] or not tree:
            raise _No(405, "Pull Request is not mergeable")
        message = "\n\n".join(part for part in (body["commit_title"], body["commit_message"]) if part)
        made = self._commit(tree, [base, head], message, who, platform=True)
        self.git("update-ref", f"refs/heads/{pull['base']['ref']}", made, base)
        ended = {"closed_at": _now(), "merged_at": _now(), "closed_by": who}
        pull |= {"state": "closed", "merged": True, "merge_commit_sha": made, **ended}
        return 200, {"sha": made, "merged": True, "message": ""}

    def issue(self, who: str, request: httpx.Request, body: Any, number: str) -> Answer:
        by = self._one(number)["closed_by"]
        return 200, {"number": int(number), "closed_by": {"login": by} if by else None}

    # --- beside them --------------------------------------------------------------------------------------

    def comment_list(self, who: str, request: httpx.Request, body: Any, number: str) -> Answer:
        self._one(number)
        return 200, [comment for comment in self.comments.values() if comment["number"] == int(number)]

    def comment_make(self, who: str, request: httpx.Request, body: Any, number: str) -> Answer:
        self._one(number)
        made = {"id": next(self._ids), "number": int(number), "user": {"login": who}, "body": body["body"]}
        self.comments[made["id"]] = made
        return 201, made

    def comment_edit(self, who: str, request: httpx.Request, body: Any, number: str) -> Answer:
        comment = self.comments[int(number)]
        comment["body"] = body["body"]
        return 200, comment

    def review_list(self, who: str, request: httpx.Request, body: Any, number: str) -> Answer:
        return 200, [review for review in self.reviews if review["number"] == int(number)]

    def review_make(self, who: str, request: httpx.Request, body: Any, number: str) -> Answer:
        if self._one(number)["user"]["login"] == who:
            raise _No(422, "Can not approve your own pull request")
        states = {"APPROVE": "APPROVED", "REQUEST_CHANGES": "CHANGES_REQUESTED", "COMMENT": "COMMENTED"}
        made = {"number": int(number), "user": {"login": who}, "state": states[body["event"]]}
        self.reviews.append({**made, "commit_id": body["commit_id"], "submitted_at": _now()})
        return 200, self.reviews[-1]

    def ask(self, who: str, request: httpx.Request, body: Any, number: str) -> Answer:
        pull = self._one(number)
        users, teams = body.get("reviewers", ()), body.get("team_reviewers", ())
        if not {*users} <= {*self.roles} or not {*teams} <= {"reviewers"}:
            raise _No(422, "Reviews may only be requested from collaborators.")
        pull["requested_reviewers"] += [{"login": name} for name in users]
        pull["requested_teams"] += [{"slug": name, "name": name.title()} for name in teams]
        return 201, pull

    def label_make(self, who: str, request: httpx.Request, body: Any) -> Answer:
        if body["name"] in self.labels:
            raise _No(422, "Validation Failed")
        self.labels[body["name"]] = body["description"]
        return 201, body

    def label_set(self, who: str, request: httpx.Request, body: Any, number: str) -> Answer:
        pull = self._one(number)
        kept = [label["name"] for label in pull["labels"]] if request.method == "POST" else []
        names = dict.fromkeys([*kept, *body.get("labels", ())])
        pull["labels"] = [{"name": name, "description": self.labels.setdefault(name, "")} for name in names]
        return 200, pull["labels"]

    def status_list(self, who: str, request: httpx.Request, body: Any, sha: str) -> Answer:
        return 200, [status for status in reversed(self.statuses) if status["sha"] == sha]

    def status_make(self, who: str, request: httpx.Request, body: Any, sha: str) -> Answer:
        self._resolved(sha)
        made = {**body, "sha": sha, "id": next(self._ids), "creator": {"login": who}}
        self.statuses.append(made)
        return 201, made

    def run_list(self, who: str, request: httpx.Request, body: Any, sha: str) -> Answer:
        found = [run for run in reversed(self.runs) if run["head_sha"] == sha]
        return 200, {"total_count": len(found), "check_runs": found}

    def run_make(self, who: str, request: httpx.Request, body: Any) -> Answer:
        if who != BOT:
            raise _No(403, "You must authenticate via a GitHub App.")
        output = {"title": None, "summary": None, **body.pop("output", {})}
        made = {"conclusion": None, **body, "id": next(self._ids), "app": {"id": APP}, "output": output}
        self.runs.append(made)
        return 201, made

    # --- writing Git --------------------------------------------------------------------------------------

    def tree_make(self, who: str, request: httpx.Request, body: Any) -> Answer:
        with tempfile.TemporaryDirectory() as scratch:
            env = {"GIT_INDEX_FILE": f"{scratch}/index", "GIT_WORK_TREE": scratch}
            self.git("read-tree", body["base_tree"], env=env)
            for entry in body["tree"]:
                if "content" not in entry:
                    self.git("rev-parse", "--verify", "--quiet", f"{body['base_tree']}:{entry['path']}")
                    self.git("update-index", "--force-remove", entry["path"], env=env)
                    continue
                oid = self.git("hash-object", "-w", "--stdin", stdin=entry["content"])
                where = f"{entry['mode']},{oid},{entry['path']}"
                self.git("update-index", "--add", "--cacheinfo", where, env=env)
            return 201, {"sha": self.git("write-tree", env=env)}

    def commit_make(self, who: str, request: httpx.Request, body: Any) -> Answer:
        return 201, {"sha": self._commit(body["tree"], body["parents"], body["message"], who)}

    # --- GraphQL ------------------------------------------------------------------------------------------

    def _graphql(self, who: str, body: Any) -> Answer:
        query, variables = body["query"], body["variables"]
        if "viewer" in query:
            return 200, {"data": {"viewer": {"login": who}}}
        if self.roles.get(who) is None:
            return 200, {"data": None, "errors": [{"type": "FORBIDDEN", "message": "not accessible"}]}
        if "updateRefs" in query:
            assert variables["input"]["repositoryId"] == "R_1"
            (update,) = variables["input"]["refUpdates"]
            ref, there = update["name"], self.tip(update["name"].removeprefix("refs/heads/")) or _NOTHING
            if there != update["beforeOid"]:
                return 200, {"errors": [{"type": "UNPROCESSABLE", "message": f"{ref} is not at beforeOid"}]}
            if update["afterOid"] == _NOTHING:
                self.git("update-ref", "-d", ref)
            else:
                self.git("update-ref", ref, update["afterOid"])
            for number in self.pulls:
                self._one(str(number))
            return 200, {"data": {"updateRefs": {"clientMutationId": None}}}
        draft = {"markPullRequestReadyForReview": False, "convertPullRequestToDraft": True}
        (name,) = (name for name in draft if name in query)
        self._one(variables["id"].removeprefix("PR_"))["draft"] = draft[name]
        return 200, {"data": {name: {"clientMutationId": None}}}


_PULL = r"/pulls/(\d+)"
_ISSUE = r"/issues/(\d+)"
_ROUTES = [
    ("GET", "", "home"),
    ("GET", "/branches/(.+)", "branch"),
    ("GET", r"/git/ref/heads/(.+)", "ref"),
    ("GET", r"/git/commits/(\w+)", "commit"),
    ("POST", "/git/commits", "commit_make"),
    ("POST", "/git/trees", "tree_make"),
    ("GET", r"/compare/(.+)\.\.\.(.+)", "compare"),
    ("GET", r"/contents/(.+)", "contents"),
    ("GET", r"/collaborators/([^/]+)/permission", "permission"),
    ("GET", "/pulls", "pull_list"),
    ("POST", "/pulls", "pull_open"),
    ("GET", _PULL, "pull_get"),
    ("PATCH", _PULL, "pull_edit"),
    ("PUT", f"{_PULL}/merge", "pull_merge"),
    ("GET", f"{_PULL}/reviews", "review_list"),
    ("POST", f"{_PULL}/reviews", "review_make"),
    ("POST", f"{_PULL}/requested_reviewers", "ask"),
    ("GET", _ISSUE, "issue"),
    ("GET", f"{_ISSUE}/comments", "comment_list"),
    ("POST", f"{_ISSUE}/comments", "comment_make"),
    ("PATCH", r"/issues/comments/(\d+)", "comment_edit"),
    ("POST", f"{_ISSUE}/labels", "label_set"),
    ("PUT", f"{_ISSUE}/labels", "label_set"),
    ("DELETE", f"{_ISSUE}/labels", "label_set"),
    ("POST", "/labels", "label_make"),
    ("GET", r"/commits/(\w+)/statuses", "status_list"),
    ("POST", r"/statuses/(\w+)", "status_make"),
    ("GET", r"/commits/(\w+)/check-runs", "run_list"),
    ("POST", "/check-runs", "run_make"),
]


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
