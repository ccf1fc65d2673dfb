"""Which subjects are not at rest, by the sweep alone; and which details of those ``look`` has to read."""

from __future__ import annotations

from typing import NamedTuple

from reconciler.core.base import Frozen, Subject
from reconciler.core.desired import DesiredState
from reconciler.core.observed import ForgeSweep, Gap, Intent, Mark, Observed, Swept, branch_of
from reconciler.core.plan import Hold
from reconciler.planning.aliases import plan_alias, stray_alias
from reconciler.planning.authors import NOBODY, People
from reconciler.planning.authors import wanted as wanted_people
from reconciler.planning.candidates import candidate
from reconciler.planning.decision import NOTHING
from reconciler.planning.exceptions import ended
from reconciler.planning.measuring import marks_wanted, plan_reproduced
from reconciler.planning.retention import plan_retention
from reconciler.planning.rollback import FAILING
from reconciler.planning.spent import NONE, spent
from reconciler.planning.training import trained
from reconciler.planning.view import View

INTENTS: tuple[Intent, ...] = ("promote", "rollback", "remove", "adopt")


class Scope(Frozen):
    """Which subjects a tick is about; empty means all. ``closely``: read their history even at rest."""

    environment: str = ""
    model: str = ""
    closely: bool = False

    def covers(self, subject: Subject, known: frozenset[Subject]) -> bool:
        """A model's training is in the scope of each of its environments; ``known`` says which those are."""
        if self.model not in ("", subject.model):
            return False
        here = Subject(environment=self.environment, model=subject.model)
        return self.environment in ("", subject.environment) or (not subject.environment and here in known)


EVERYTHING = Scope()


def in_motion(desired: DesiredState, swept: Swept, scope: Scope = EVERYTHING) -> tuple[Subject, ...]:
    """The subjects in scope that are not at rest, sorted."""
    view = View(desired, Observed(swept=swept))
    known = frozenset(desired.subjects)
    return tuple(
        subject
        for subject in sorted(_subjects(view), key=lambda s: (s.environment, s.model))
        if scope.covers(subject, known) and (scope.closely or not at_rest(view, subject))
    )


def at_rest(view: View, subject: Subject) -> bool:
    """Whether the sweep alone shows that nothing is to be done or said about a subject."""
    if view.desired.hidden(subject) or ended(view, subject):
        return False
    if not subject.environment:
        settled = trained(view, subject) and spent(view, subject) == NONE
        return settled and plan_retention(view, subject) == NOTHING == plan_reproduced(view, subject)
    known = subject.environment in view.desired.environments and subject.model in view.desired.models
    release, workload = view.release(subject), view.workload(subject)
    if isinstance(workload, Gap) or any(view.open_pull(intent, subject) for intent in INTENTS):
        return False
    if release is None:
        wanted = known and subject.environment in view.model(subject).environments
        return not wanted and workload is None and not stray_alias(view, subject)
    if not known or subject.environment not in view.model(subject).environments:
        return False
    served = release.serving == "none" or (
        workload is not None
        and workload.release == workload.serving == release.digest
        and workload.health == "Healthy"
        and not view.drifted(subject, workload)
    )
    if (
        not served
        or view.verified_at(subject.environment, release) is None
        or plan_alias(view, subject) != NOTHING
        or view.edited(subject, release)
    ):
        return False
    wanted_next = candidate(view, subject)
    return not isinstance(wanted_next, Hold) and wanted_next.change is None


class Details(NamedTuple):
    """What ``look`` reads about one moving subject. ``edited``: who changed its manifests; ``people``: whose
    the candidate and its waivers are."""

    history: bool
    edited: bool
    branches: tuple[str, ...]
    pulls: tuple[int, ...]
    marks: tuple[tuple[str, Mark], ...]
    people: People = NOBODY


def details(view: View, subject: Subject, closely: bool = False) -> Details:
    """Only what planning this subject will ask for. ``marks`` are (registry, mark)."""
    if not subject.environment or view.desired.hidden(subject):
        return Details(False, False, (), (), ())
    if subject.environment not in view.desired.environments or subject.model not in view.desired.models:
        return Details(False, False, (), (), ())
    pulls = tuple(pull for intent in INTENTS if (pull := view.open_pull(intent, subject)) is not None)
    release, workload = view.release(subject), view.workload(subject)
    failing = workload is not None and not isinstance(workload, Gap) and workload.health in FAILING
    asked = any(pull.marker and pull.marker.asked_by for pull in pulls)
    history = release is not None and (
        closely or failing or asked or view.verified_at(subject.environment, release) is None
    )
    wanted = candidate(view, subject, upgrade=closely)
    marks: tuple[tuple[str, Mark], ...] = ()
    people = NOBODY
    branches: list[str] = []
    if not isinstance(wanted, Hold) and wanted.change is not None:
        marks = tuple((wanted.pin.registry, mark) for mark in marks_wanted(view, subject, wanted).values())
        branches.append(branch_of("promote", subject))
        people = wanted_people(view, subject, wanted.version)
    if failing or (release is not None and view.environment(subject).promotion.on_unadmitted == "revert"):
        branches.append(branch_of("rollback", subject))
    if release is not None and subject.environment not in view.model(subject).environments:
        branches.append(branch_of("remove", subject))
    taken = {pull.branch for pull in pulls}
    numbers = tuple(pull.number for pull in pulls)
    edited = release is not None and view.edited(subject, release)
    return Details(history, edited, tuple(b for b in branches if b not in taken), numbers, marks, people)


def _subjects(view: View) -> set[Subject]:
    found = set(view.desired.subjects)
    for sweep in view.observed.swept.clusters.values():
        if not isinstance(sweep, Gap):
            found |= {Subject(environment=w.environment, model=w.model) for w in sweep.workloads.values()}
    forge = view.observed.swept.forge
    if isinstance(forge, ForgeSweep):
        found |= {
            Subject(environment=pull.marker.environment, model=pull.marker.model)
            for pull in forge.open.values()
            if pull.ours and pull.marker is not None
        }
    # What a removal left behind when it was cut short: nothing else of the subject is to be seen any more.
    unpinned = {
        Subject(environment=environment, model=model)
        for environment in view.desired.environments
        for model in view.desired.models
        if f"{environment}/{model}" not in view.desired.releases
    }
    return found | {subject for subject in unpinned - found if stray_alias(view, subject)}
