"""The ports in memory answer as the embedded adapters do, call by call, so that the laws rest on what is real.

Each story is told to both, and what both say is compared. Engine and cluster have no such twin here: their
doubles run nothing, and say only what :class:`tests.doubles.world.World` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from reconciler.adapters.git_source import GitSource
from reconciler.adapters.mlflow_registry import MlflowRegistry
from reconciler.core.errors import TrueupError
from reconciler.core.observed import PRUNED, Pruned, PullRequest, RegistrySweep
from reconciler.core.plan import FileChange
from reconciler.ports import Source
from tests.contract.test_forge import AT, BRANCH, MARKER, PIN, Forge
from tests.contract.test_forge import World as GitRepository
from tests.doubles.forge import MemoryForge
from tests.doubles.registry import MemoryRegistry
from tests.doubles.repository import MemoryRepository
from tests.doubles.world import Clock

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


def said(call: Callable[[], Any]) -> Any:
    """What a call answers, or the kind of its failure."""
    try:
        return call()
    except TrueupError as error:
        return type(error).__name__


# --- forge and source -------------------------------------------------------------------------------------


class Side(Protocol):
    """A repository with its forge."""

    @property
    def forge(self) -> Forge | MemoryForge: ...

    @property
    def source(self) -> Source: ...

    def push(self, files: Mapping[str, str]) -> None:
        """A person's commit on main."""


class InGit:
    def __init__(self, folder: Path) -> None:
        self.world = GitRepository(folder)
        self.forge = self.world.forge()
        self.source = GitSource(str(self.world.bare), folder / "cache")

    def push(self, files: Mapping[str, str]) -> None:
        self.world.push(dict(files))


class InMemory:
    def __init__(self) -> None:
        self.source = MemoryRepository()
        self.forge = MemoryForge(self.source, Clock(AT), checks=False)
        self.push({PIN: "version: 1\n", "README.md": "hello\n"})

    def push(self, files: Mapping[str, str]) -> None:
        self.source.commit(files, at=AT, author="Ada", subject=f"edit {', '.join(files)}")


def seen(pull: PullRequest) -> dict[str, Any]:
    """A pull request without what only one Git could give."""
    shown = pull.model_dump(exclude={"head", "merge_commit", "approvals"})
    return shown | {"approvals": [(a.by, a.head == pull.head, a.at) for a in pull.approvals]}


class Telling:
    """Tells a story to one side and writes down what it says."""

    def __init__(self, side: Side) -> None:
        self.side, self.forge, self.heard = side, side.forge, list[Any]()

    def hear(self, what: Any) -> None:
        self.heard.append(what)

    def look(self) -> None:
        forge = self.forge
        self.hear({number: seen(pull) for number, pull in forge.sweep().open.items()})
        self.hear([seen(pull) for pull in forge.closed(BRANCH)])
        self.hear(sorted(forge.merged().values()))
        main = self.side.source.head()
        blobs = self.side.source.files(main)
        self.hear(blobs)
        self.hear(self.side.source.tree(main, "environments"))
        self.hear(self.side.source.read([blob.oid for blob in blobs.values()]))
        self.hear([commit.author for commit in self.side.source.log(PIN)])

    def wish(self, text: str | None, path: str = PIN, **changes: Any) -> dict[str, Any]:
        return {
            "base": self.side.source.head(),
            "title": "Promote digits",
            "body": f"Why.\n\n{MARKER}",
            "files": (FileChange(path=path, content=text),),
            "draft": False,
            "labels": (),
        } | changes

    def open(self, text: str | None, branch: str = BRANCH, **changes: Any) -> None:
        wish = self.wish(text, **changes)
        self.hear(said(lambda: self.forge.open(branch=branch, **wish)))

    def update(self, number: int, text: str | None, head: str = "", **changes: Any) -> None:
        wish = self.wish(text, **changes)
        at = head or self.forge.get(number).head
        self.hear(said(lambda: self.forge.update(number, head=at, **wish)))

    def merge(self, number: int, head: str = "") -> None:
        at = head or self.forge.get(number).head
        answer = said(lambda: self.forge.merge(number, head=at, message="Promote digits"))
        self.hear(answer if answer in ("Retryable", "Terminal") else answer == self.side.source.head())


def merges(story: Telling) -> None:
    story.open("version: 2\n")
    story.open("version: 3\n")
    story.look()
    story.merge(1, head="0" * 40)
    story.merge(1)
    story.merge(1)
    story.look()
    story.open("version: 3\n")
    story.look()


def is_rebuilt(story: Telling) -> None:
    story.open("version: 2\n")
    first = story.forge.get(1).head
    story.forge.approve(1)
    story.forge.approve(1)
    story.update(1, "version: 3\n", title="Promote another")
    story.update(1, "version: 4\n", head=first)
    story.look()
    story.forge.approve(1)
    story.look()
    story.merge(1)
    story.look()
    story.update(1, "version: 5\n")


def is_a_draft(story: Telling) -> None:
    story.open("version: 2\n", draft=True)
    story.merge(1)
    story.hear(said(lambda: story.forge.ready(1, head="0" * 40)))
    story.forge.approve(1)
    story.forge.ready(1, head=story.forge.get(1).head)
    story.look()
    story.merge(1)
    story.look()


def conflicts(story: Telling) -> None:
    story.open("version: 2\n")
    story.open(None, branch="trueup/remove/staging/digits", path="README.md")
    story.side.push({PIN: "version: 9\n"})
    story.look()
    story.merge(1)
    story.merge(2)
    story.look()
    story.update(1, "version: 2\n")
    story.merge(1)
    story.look()


def is_closed(story: Telling) -> None:
    story.open("version: 2\n")
    story.forge.close(1, reason="superseded")
    story.forge.close(1, reason="superseded")
    story.look()
    story.merge(1)
    story.hear(said(lambda: story.forge.approve(1)))
    story.open("version: 3\n")
    story.forge.comment(2, "look at this")
    story.forge.close_as_person(2, "not now")
    story.look()
    story.open("version: 4\n")
    story.forge.merge_as_person(3)
    story.look()


def goes_astray(story: Telling) -> None:
    story.open("version: 2\n", base="0" * 40)
    story.hear(said(lambda: story.forge.get(7)))
    story.hear(said(lambda: story.forge.comment(7, "hello?")))
    story.look()


@pytest.mark.parametrize("story", [merges, is_rebuilt, is_a_draft, conflicts, is_closed, goes_astray])
def test_a_pull_request(story: Callable[[Telling], None], tmp_path: Path) -> None:
    git, memory = Telling(InGit(tmp_path)), Telling(InMemory())
    story(git)
    story(memory)
    assert memory.heard == git.heard


# --- registry ---------------------------------------------------------------------------------------------


def normal(sweep: RegistrySweep) -> dict[str, Any]:
    return {
        name: (model.aliases, [(v.version, v.ready, v.tags) for v in model.versions])
        for name, model in sweep.models.items()
    }


def test_a_registry(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri, uri)
    client.create_registered_model("digits")
    memory = MemoryRegistry(Clock(AT))
    for number in range(11):
        tags = {"trueup.digest": f"sha256:{number:064x}"}
        client.create_model_version("digits", "s3://models/digits", tags=tags)
        memory.register("digits", tags)

    def story(registry: MlflowRegistry | MemoryRegistry) -> list[Any]:
        heard = []
        for version in ("1", "10", "10"):
            registry.set_alias("digits", "champion", version)
            registry.set_tag("digits", version, "trueup.told.staging", f"x{version}")
            heard.append(normal(registry.sweep()))
        registry.delete_alias("digits", "champion")
        registry.delete_alias("digits", "champion")
        registry.delete_alias("unknown", "champion")
        heard.append(normal(registry.sweep()))
        for name, version in (("digits", "99"), ("unknown", "1")):
            heard.append(said(lambda n=name, v=version: registry.set_alias(n, "champion", v)))  # type: ignore[misc]
            heard.append(said(lambda n=name, v=version: registry.set_tag(n, v, "trueup.x", "y")))  # type: ignore[misc]
        heard.append(said(lambda: registry.evidence(f"runs:/{'0' * 32}/evidence/evaluate.json")))
        registry.set_alias("digits", "champion", "11")
        for version in ("11", "11", "99"):
            registry.log("digits", f"{PRUNED}{version}", str(Pruned(at=AT, by="Ada", listed="x")))
            registry.delete_version("digits", version)
        registry.delete_run("0" * 32)
        heard.append(said(lambda: registry.log("unknown", f"{PRUNED}1", "x")))
        heard.append(registry.runs("digits"))
        heard.append(normal(registry.sweep()))
        return heard

    assert story(memory) == story(MlflowRegistry(uri))
