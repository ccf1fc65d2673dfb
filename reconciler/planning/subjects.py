"""What happens to one subject, from first to last: the order in which the planning functions are asked."""

from __future__ import annotations

from reconciler.core.base import Subject
from reconciler.core.documents import Release
from reconciler.core.observed import Gap, Workload
from reconciler.core.plan import Hold, Verdict
from reconciler.planning.admission import admit_subject
from reconciler.planning.aliases import plan_alias, plan_leftovers
from reconciler.planning.by_hand import plan_adoption
from reconciler.planning.candidates import candidate
from reconciler.planning.decision import NOTHING, Decision, wait
from reconciler.planning.exceptions import ended
from reconciler.planning.holds import hold, unanswered
from reconciler.planning.measuring import plan_reproduced
from reconciler.planning.promotion import plan_promotion
from reconciler.planning.proposals import Wish, close_unwanted, plan_proposal, with_release
from reconciler.planning.retention import plan_retention
from reconciler.planning.rollback import FAILING, blamed, rollback_wish
from reconciler.planning.serving import drift_warning, not_to_be_applied, plan_serving
from reconciler.planning.spent import plan_spent
from reconciler.planning.training import plan_training
from reconciler.planning.view import View


def plan_subject(view: View, subject: Subject) -> Decision:
    """Actions and holds of one moving subject."""
    problem = view.desired.hidden(subject)
    if problem is not None:
        return wait(hold("invalid-document", subject, str(problem)))
    if not subject.environment:
        tidied = plan_spent(view, subject).and_then(plan_retention(view, subject))
        return plan_training(view, subject).and_then(plan_reproduced(view, subject)).and_then(tidied)
    gap = view.observed.gaps.get(str(subject))
    if gap is not None:
        return wait(unanswered(subject, gap))
    return _placed(view, subject).and_then(wait(*ended(view, subject)))


def _placed(view: View, subject: Subject) -> Decision:
    release = view.release(subject)
    if release is not None:
        return _pinned(view, subject, release)
    known = subject.environment in view.desired.environments and subject.model in view.desired.models
    wanted = known and subject.environment in view.model(subject).environments
    adopting = plan_adoption(view, subject) if wanted else None
    if adopting is not None:
        return adopting
    leftovers = plan_leftovers(view, subject)
    for intent in ("rollback", "remove"):
        leftovers = leftovers.and_then(close_unwanted(view, subject, intent, "nothing is pinned here"))
    if leftovers != NOTHING:
        return leftovers
    if wanted:
        return plan_promotion(view, subject)
    why = "the model no longer names this environment"
    return close_unwanted(view, subject, "promote", why).and_then(close_unwanted(view, subject, "adopt", why))


def _pinned(view: View, subject: Subject, release: Release) -> Decision:
    adopted = close_unwanted(view, subject, "adopt", "something is pinned here now")
    return adopted.and_then(_served(view, subject, release))


def _served(view: View, subject: Subject, release: Release) -> Decision:
    stopped = not_to_be_applied(view, subject, release)
    if stopped is not None:
        return stopped.and_then(_revert(view, subject, stopped))
    alias = plan_alias(view, subject)
    if subject.environment not in view.model(subject).environments:
        gone = close_unwanted(view, subject, "promote", "the model no longer names this environment")
        return alias.and_then(gone).and_then(plan_proposal(view, _removal(view, subject, release)))
    workload = view.workload(subject)
    failing = _failing(view, subject, release, workload)
    if failing is not None:
        decision, settled = failing
        return alias.and_then(decision).and_then(NOTHING if settled else plan_promotion(view, subject))
    ordered = _ordered_rollback(view, subject)
    if ordered is not None:
        return alias.and_then(ordered)
    recovered = NOTHING
    if not isinstance(workload, Gap):
        recovered = close_unwanted(view, subject, "rollback", "the release is not failing")
    removal = close_unwanted(view, subject, "remove", "the model names this environment again")
    told = drift_warning(view, subject, release, workload)
    alias = alias.and_then(told).and_then(recovered).and_then(removal)
    serving = plan_serving(view, subject, release, workload)
    if serving != NOTHING:
        return alias.and_then(serving).and_then(_next_in_line(view, subject))
    return alias.and_then(plan_promotion(view, subject))


def _failing(
    view: View, subject: Subject, release: Release, workload: Workload | Gap | None
) -> tuple[Decision, bool] | None:
    """What a failing release asks for, and whether that is all that happens to the subject now.

    Not all: a release that nobody can be taken back from, or that is not at fault, may be replaced by a new
    version.
    """
    if (
        not isinstance(workload, Workload)
        or workload.health not in FAILING
        or workload.release != release.digest
    ):
        return None
    why = blamed(view, subject, release, workload)
    if isinstance(why, Hold):
        return wait(why), why.code in ("gap", "unhealthy")
    wish = rollback_wish(view, subject, why)
    if isinstance(wish, Hold):
        return wait(wish), False
    return plan_proposal(view, wish), True


def _ordered_rollback(view: View, subject: Subject) -> Decision | None:
    """A person's open rollback: kept as ordered, whatever the cluster says by now."""
    existing = view.open_pull("rollback", subject)
    if existing is None or existing.marker is None or not existing.marker.asked_by:
        return None
    proposal = view.observed.proposals.get(existing.number)
    proposed = proposal.state.releases.get(str(subject)) if proposal else None
    if proposed is None or not proposed.rejected:
        return wait(hold("gap", subject, f"the head of #{existing.number} was not read"))
    wish = rollback_wish(view, subject, proposed.rejected[-1].reason, asked_by=existing.marker.asked_by)
    return wait(wish) if isinstance(wish, Hold) else plan_proposal(view, wish)


def _revert(view: View, subject: Subject, stopped: Decision) -> Decision:
    """The pull request that takes an unadmitted pin back, where the environment asks for one."""
    unadmitted = any(h.code == "unadmitted" for h in stopped.holds)
    if not unadmitted or view.environment(subject).promotion.on_unadmitted != "revert":
        return NOTHING
    wish = rollback_wish(view, subject, "merged without being admissible")
    return wait(wish) if isinstance(wish, Hold) else plan_proposal(view, wish)


def _removal(view: View, subject: Subject, release: Release) -> Wish:
    head = with_release(view.desired, subject, None, None)
    verdict: Verdict = admit_subject(view.desired, head, view.observed, subject)
    why = f"{subject.model} no longer names {subject.environment} in its environments"
    return Wish(
        subject=subject,
        intent="remove",
        candidate="none",
        release=None,
        bundle=None,
        verdict=verdict.model_copy(update={"inputs": release.digest}),
        title=f"Remove {subject.model} from {subject.environment}",
        headline=why,
        reason=why,
        approvals=view.environment(subject).promotion.approvals,
        approved_by=view.environment(subject).promotion.approved_by,
        merge="manual",
        frozen=True,
        lineage={"removes": release.pin.digest},
    )


def _next_in_line(view: View, subject: Subject) -> Decision:
    """While a release is in flight the next candidate waits; said only where there is one."""
    wanted = candidate(view, subject)
    if isinstance(wanted, Hold) or wanted.change is None:
        return NOTHING
    release = view.release(subject)
    verified = release is not None and view.verified_at(subject.environment, release) is not None
    why = (
        "it waits until the present release is seen to serve"
        if verified
        else "the release before it is neither verified nor failed yet"
    )
    return wait(hold("release-in-flight", subject, f"version {wanted.pin.version} is next; {why}"))
