"""Releases that an older renderer made, moved to the environment's own: asked for by ``render --upgrade``.

A Release keeps its renderer while its version and serving section are what is wanted. Moving it is a promotion
of the same version, through the gates of a changed serving section, by a pull request that is its person's: the
planner keeps it open.
"""

from __future__ import annotations

from reconciler.core.base import Subject
from reconciler.core.desired import DesiredState
from reconciler.core.errors import Terminal
from reconciler.core.observed import Gap, Observed
from reconciler.core.plan import Hold, OpenPullRequest
from reconciler.planning.candidates import candidate
from reconciler.planning.measuring import plan_measuring
from reconciler.planning.promotion import promotion_wish
from reconciler.planning.proposals import open_request
from reconciler.planning.view import View


def outdated(desired: DesiredState, environment: str) -> tuple[Subject, ...]:
    """The subjects of an environment whose Release names another renderer than the environment, sorted.

    Terminal where there is no such environment, or its document is wrong.
    """
    found = desired.environments.get(environment)
    if found is None:
        raise Terminal("there is no such environment", where=environment, hint="see `reconcile validate`")
    served = {key: release for key, release in desired.releases.items() if release.serving != "none"}
    pairs = sorted(
        key.partition("/")[::2] for key, release in served.items() if release.renderer != found.runtime.renderer
    )
    return tuple(Subject(environment=name, model=model) for name, model in pairs if name == environment)


def upgrade(desired: DesiredState, observed: Observed, subject: Subject, person: str) -> OpenPullRequest:
    """The pull request that moves one of the :func:`outdated`. Terminal, with the reason, if it may not be."""
    view, where = View(desired, observed), str(subject)
    problem = desired.hidden(subject)
    if problem is not None:
        raise Terminal(problem.what, where=problem.path, hint=problem.hint or "mend the document first")
    release, workload = view.release(subject), view.workload(subject)
    existing = view.open_pull("promote", subject)
    if existing is not None:
        raise Terminal(f"#{existing.number} is open already", where=where, hint="merge or close it first")
    if isinstance(workload, Gap):
        raise Terminal(f"the {workload.source} did not answer: {workload.error}", where=where)
    if release is None or view.verified_at(subject.environment, release) is None:
        raise Terminal("its release is not verified yet", where=where, hint="ask again when it is")
    wanted = candidate(view, subject, upgrade=True)
    if isinstance(wanted, Hold):
        raise Terminal(wanted.reason, where=where, hint="see `reconcile explain`")
    if wanted.pin.digest != release.pin.digest:
        hint = "it comes with the environment's renderer; nothing need be moved"
        raise Terminal(f"version {wanted.pin.version} is about to be proposed", where=where, hint=hint)
    measured = plan_measuring(view, subject, wanted)
    if not measured.complete:
        raise Terminal("its evidence is not complete", where=where, hint="ask again after the next tick")
    wish = promotion_wish(view, subject, wanted, measured, asked_by=person)
    if wish.verdict.verdict == "block":
        raise Terminal("; ".join(wish.verdict.against()), where=where, hint="see `reconcile explain`")
    old, new = release.renderer, wanted.renderer
    named = wish._replace(
        title=f"Render {subject.model} in {subject.environment} with {new}",
        headline=f"{subject.model} in {subject.environment}: {new} instead of {old}, the version stays",
    )
    return open_request(view, named)
