"""What main had: every pin of a subject with the commit that brought it, read from Git alone.

Called by look for the pin that is there now, and by replay for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from reconciler.core.base import Subject
from reconciler.core.desired import DesiredState
from reconciler.core.documents import release_path
from reconciler.core.observed import PinHistory
from reconciler.load import load, release_at
from reconciler.ports import Blob, Source


def pins(source: Source, subject: Subject, limit: int | None = None) -> Iterator[PinHistory]:
    """Newest first, among the newest ``limit`` commits that changed the Release. A removal is no pin."""
    path = release_path(subject.environment, subject.model)
    found = [(commit, release_at(source, commit.oid, subject)) for commit in source.log(path)[:limit]]
    # A Release that could not be read was nobody's pin; what it was mended to is still the pin before it.
    told = [(c, release) for c, release in found if release is not None or path not in source.files(c.oid)]
    for place, (commit, release) in enumerate(told):
        older = [earlier for _, earlier in told[place + 1 :]]
        if release is None or (older and older[0] is not None and older[0].digest == release.digest):
            continue
        introduced = load(source, commit.oid)
        yield PinHistory(
            commit=commit.oid,
            at=commit.at,
            before=load(source, commit.parent) if commit.parent else _without(introduced, str(subject)),
            introduced=introduced,
            past=tuple(earlier for earlier in older if earlier is not None),
        )


def gone(source: Source, subject: Subject, at: datetime | None = None) -> bool:
    """Whether the newest commit that changed the Release, until ``at``, took it away."""
    path = release_path(subject.environment, subject.model)
    newest = next((commit for commit in source.log(path) if at is None or commit.at <= at), None)
    return newest is not None and path not in source.files(newest.oid)


class OneModel:
    """A Source without the files of other models: a state of it is all that one model's past is judged by.

    Loading hundreds of commits costs by what is in each of them, and a repository has hundreds of models.
    """

    def __init__(self, source: Source, model: str) -> None:
        self._source, self._model = source, model
        self.head, self.resolve, self.tree = source.head, source.resolve, source.tree
        self.read, self.log, self.checkout = source.read, source.log, source.checkout

    def files(self, commit: str) -> Mapping[str, Blob]:
        return {path: blob for path, blob in self._source.files(commit).items() if self._mine(path)}

    def _mine(self, path: str) -> bool:
        match path.split("/", 4):
            case ["models", model, *_]:
                return model == self._model
            case ["environments", _, "releases" | "exceptions" | "rendered", name, *_]:
                return name.removesuffix(".yaml").removesuffix(".evidence.json") == self._model
            case ["policies", "tests", *_]:
                return False
        return True


def _without(state: DesiredState, key: str) -> DesiredState:
    """The state before a repository's first commit: the same, without this pin."""
    tables = {
        name: {k: v for k, v in getattr(state, name).items() if k != key}
        for name in ("releases", "bundles", "rendered")
    }
    return state.model_copy(update=tables)
