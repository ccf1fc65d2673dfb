"""What `reconcile prune` lists: the versions that can go, with their runs, and what keeps the others."""

from __future__ import annotations

from pydantic import Field

from reconciler.core.base import Frozen, Instant
from reconciler.core.digests import digest_of
from reconciler.core.documents import Release
from reconciler.core.observed import Archived, Mark, Pruned


class Held(Frozen):
    """A release that main had of a subject, from its merge to the next change; ``until`` is None for the last.

    ``evidence``: where what it was judged on is.
    """

    release: Release
    since: Instant
    until: Instant | None = None
    evidence: tuple[Mark, ...] = ()


class Removal(Frozen):
    """One version that can go, and the runs that go with it.

    ``begun``: it was logged before and not finished; the version itself may be gone, and runs of it be left.
    """

    model: str
    registry: str
    name: str
    version: str
    digest: str | None = None
    training_key: str | None = None
    created: Instant | None = None
    run: str = Field(default="", description="Run id of its training.")
    archived: Archived | None = None
    environments: tuple[str, ...] = Field(default=(), description="Whose retention it was under.")
    runs: tuple[str, ...] = Field(default=(), description="Run ids: its training, trials, measurements.")
    begun: Pruned | None = None

    @property
    def label(self) -> str:
        return f"version {self.version} of {self.name}"


class Kept(Frozen):
    """One version that stays, and all reasons for it."""

    model: str
    registry: str
    name: str
    version: str
    archived: bool
    why: tuple[str, ...]


class Listing(Frozen):
    """Everything that `reconcile prune` would delete, and everything that it would not."""

    removals: tuple[Removal, ...] = ()
    kept: tuple[Kept, ...] = ()
    unknown: dict[str, str] = Field(
        default_factory=dict, description="By model: why nothing is said of its versions, and all of them stay."
    )
    tripped: tuple[str, ...] = Field(default=(), description="Tripwires that stopped the deletes of a model.")

    @property
    def digest(self) -> str:
        """Of what would be deleted: each version by its digest, and each run."""
        said = [
            [each.registry, each.name, each.version, each.digest or "", *each.runs] for each in self.removals
        ]
        return digest_of("prune", removals=said)
