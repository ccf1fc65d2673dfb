"""What a forge's adapter asks of Git about branches, on a bare repository that has their commits.

:mod:`reconciler.adapters.embedded.forge` calls it on the forge itself, :mod:`reconciler.adapters.forges.gitea`
on a mirror. :mod:`reconciler.adapters.forges.github` asks GitHub the same, and shares the words.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from datetime import datetime

from reconciler.adapters.git_command import Change, GitCommand, Identity, commit_id
from reconciler.core.errors import Retryable
from reconciler.core.observed import PullRequest
from reconciler.core.plan import FileChange

_PLAIN = ("-p", "-r", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames")
_WITHOUT_EVIDENCE = (":(top)", ":(top,exclude)environments/*/releases/*.evidence.json")
_EVIDENCE = re.compile(r"diff --git a/environments/[^/\n]+/releases/[^/\n]+\.evidence\.json ")


def brought(git: GitCommand, tip: str, heads: Iterable[str]) -> dict[str, Change]:
    """The commits that these heads bring to the branch at ``tip``. One Git call for all of them."""
    wanted = set(heads)
    return git.commits("\n".join([*wanted, f"^{tip}", ""])) if wanted else {}


def only_by(who: Identity, changes: Mapping[str, Change], head: str) -> bool:
    """Whether every one of ``changes`` from ``head`` down was written and committed by ``who``."""
    ahead, seen = [head], set[str]()
    while ahead:
        oid = ahead.pop()
        if oid in seen or oid not in changes:
            continue
        if changes[oid].people != {who}:
            return False
        seen.add(oid)
        ahead += changes[oid].parents
    return True


def rebuilt(
    git: GitCommand,
    tip: str,
    base: str,
    title: str,
    files: Iterable[FileChange],
    *,
    who: Identity,
    at: datetime,
    where: str,
) -> str:
    """A commit on ``base`` that changes these files. Retryable where ``tip``'s history has no ``base``."""
    if not git.contains(tip, commit_id(base)):
        raise not_on_main(base, where)
    return git.commit(base, {file.path: file.content for file in files}, title, who, at)


def not_on_main(base: str, where: str) -> Retryable:
    hint = "the next tick starts from the new one"
    return Retryable(f"{base[:12]} is not on the default branch", where=where, hint=hint)


def merge_cleanly(git: GitCommand, base: str, head: str) -> bool:
    """Whether they merge without conflict. The result goes to a scratch folder: a look writes nothing."""
    objects = json.dumps(str(git.git_dir / "objects"), ensure_ascii=False)
    with tempfile.TemporaryDirectory() as scratch:
        env = {"GIT_OBJECT_DIRECTORY": scratch, "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects}
        return bool(git.merged_tree(base, head, env))


def difference(git: GitCommand, tip: str, pull: PullRequest) -> str:
    """What a pull request changes, as a unified diff; ``tip`` is of its base branch.

    Without evidence files: its body has their numbers. Compared with where its branch left the base branch, so
    that what others merged since is not shown.
    """
    base = f"{pull.merge_commit}^1" if pull.merge_commit else tip
    left = git.run("merge-base", base, commit_id(pull.head), accept=(0, 1, 128)).text
    if not left:
        return ""
    how = {"GIT_LITERAL_PATHSPECS": "0"}
    answer = git.run("diff-tree", *_PLAIN, left, pull.head, "--", *_WITHOUT_EVIDENCE, env=how)
    return answer.out.decode(errors="replace").strip()


def without_evidence(text: str) -> str:
    """The same of a unified diff that a forge made of everything."""
    files = re.split(r"^(?=diff --git )", text, flags=re.MULTILINE)
    return "".join(file for file in files if not _EVIDENCE.match(file)).strip()
