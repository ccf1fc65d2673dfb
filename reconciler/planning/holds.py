"""Every reason for which something wanted does not happen now, as one table (docs/holds.md is made of it)."""

from __future__ import annotations

from typing import NamedTuple

from reconciler.core.base import Subject
from reconciler.core.observed import Gap
from reconciler.core.plan import Hold, Verdict


class Meaning(NamedTuple):
    """What a code means, and whether it waits for a person (or for time, or for a system)."""

    what: str
    person: bool = False


HOLDS: dict[str, Meaning] = {
    # what could not be seen
    "gap": Meaning("A source did not answer. Nothing is concluded from it; the next tick asks again."),
    "invalid-document": Meaning(
        "A document of this subject does not parse or contradicts another.", person=True
    ),
    # training and measuring
    "training": Meaning("A training run is under way."),
    "training-failed": Meaning("Every attempt at this training key failed.", person=True),
    "training-registered-nothing": Meaning("A training succeeded without registering a version.", person=True),
    "cancelled": Meaning("A person ended the run; it is tried again when a person says so.", person=True),
    "retrain-not-asked": Meaning("Only something that retrainOn does not name has changed.", person=True),
    "awaiting-schedule": Meaning("What changed is trained at the next instant of the model's schedule."),
    "cooling-down": Meaning("The last training of the model is too short a time ago."),
    "training-budget": Meaning("The model has trained for its hours of the day."),
    "not-trained": Meaning("No version of the training that main describes exists yet."),
    "external-version-missing": Meaning("The alias that requests an external version names none.", person=True),
    "measuring": Meaning("A measurement that a gate needs is under way."),
    "measurement-failed": Meaning("Every attempt at a measurement failed, or it cannot be made.", person=True),
    # who may go where
    "upstream-not-verified": Meaning("The environments it promotes from have not verified one version."),
    "version-missing": Meaning("The version that should be here is not in this registry.", person=True),
    "rejected": Meaning("The candidate failed here before.", person=True),
    "held": Meaning("A person ordered a hold.", person=True),
    "exception-ended": Meaning("A hold or a waiver is over, and still stands in Git.", person=True),
    "gate-failed": Meaning(
        "A gate blocks the version: train a better one, or waive the gate for this one.", person=True
    ),
    "not-admissible": Meaning("The pin may not be merged, for a reason that is not a gate.", person=True),
    "release-in-flight": Meaning("The release before is neither verified nor failed."),
    # pull requests
    "awaiting-approval": Meaning("The pull request waits for approvals.", person=True),
    "awaiting-merge": Meaning("The pull request is admitted and approved; a person merges it.", person=True),
    "frozen": Meaning("A freeze window is open."),
    "closed-by-person": Meaning("A person closed this proposal; it is not opened again.", person=True),
    "foreign-commits": Meaning("Somebody else's commits are on our branch; it is left to them.", person=True),
    # serving
    "unadmitted": Meaning(
        "The pin was merged without being admissible; nothing of it is applied.", person=True
    ),
    "rendered-edited": Meaning("The committed manifests are not the ones of this pin.", person=True),
    "pinned-version-missing": Meaning("The pinned version is gone, or is not what the pin says.", person=True),
    "awaiting-sync": Meaning("Argo CD applies in this environment, and has not applied this release yet."),
    "progressing": Meaning("The cluster is bringing the release up."),
    "paused": Meaning("The canary does not go on by itself: a person decides.", person=True),
    "drifted": Meaning("Somebody changed what trueup had put there, and it is only told.", person=True),
    "soaking": Meaning("The release is healthy and has not yet been so for long enough."),
    "unhealthy": Meaning("The release is unhealthy, not yet for long enough to be rolled back."),
    "not-attributable": Meaning(
        "Unhealthy, but not within the window in which the release is blamed.", person=True
    ),
    "no-rollback-target": Meaning("There is no verified release to go back to.", person=True),
    "rollback-of-rollback": Meaning("What failed is itself a rollback.", person=True),
    "outage": Meaning("More rollbacks at once than the limit: not the models' fault.", person=True),
    "unknown-environment": Meaning(
        "Something of ours runs in an environment that Git does not know.", person=True
    ),
    # limits
    "budget": Meaning("A budget is used up; it waits for its turn."),
    "tripwire": Meaning("More removals at once than the limit.", person=True),
}


def hold(code: str, subject: Subject, reason: str, verdict: Verdict | None = None) -> Hold:
    """A Hold of a known code. ``reason`` names the next event, or the command that would change it."""
    return Hold(code=code, subject=subject, reason=reason, person=HOLDS[code].person, verdict=verdict)


def unanswered(subject: Subject, gap: Gap) -> Hold:
    """The Hold for whatever a Gap hides."""
    return hold("gap", subject, f"the {gap.source} did not answer: {gap.error}")
