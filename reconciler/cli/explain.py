"""`reconcile explain`: why one model is where it is, gate by gate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import console
from reconciler.cli.options import Format, Output
from reconciler.cli.session import Session

if TYPE_CHECKING:
    from reconciler.core.base import Subject
    from reconciler.core.plan import Verdict
    from reconciler.loop import Planned
    from reconciler.report.explain import Explanation, Judged


def explain(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="As in digits; or both in one, as in production/digits.")
    ],
    env: Annotated[
        str, typer.Argument(metavar="ENV", show_default=False, help="As in production, after a MODEL alone.")
    ] = "",
    output: Output = Format.text,
) -> None:
    """Say why a model is where it is, and what is next."""
    from reconciler.bootstrap.process import now
    from reconciler.loop import plan_once
    from reconciler.planning.in_motion import Scope
    from reconciler.report import explain as report
    from reconciler.report import json

    if not env:
        model, env = _parted(model)
    session = Session.of(context)
    with console.working("asking the registry, the workflows, the forge and the cluster"):
        # The model everywhere, not here alone: what is on its way is said of the environments before this one.
        planned = plan_once(session.readers, now(), Scope(model=model, closely=True))
    told = explanation(planned, _known(planned, env, model))
    if output is Format.json:
        console.write(json.dump(told.model_dump(mode="json", by_alias=True)))
    else:
        console.show(report.blocks(told))


def explanation(planned: Planned, subject: Subject) -> Explanation:
    """What there is to say about one subject, from a plan that covers its model in every environment."""
    from reconciler.core.base import Subject
    from reconciler.planning.candidates import coming
    from reconciler.planning.exceptions import counting
    from reconciler.planning.view import View
    from reconciler.report import explain as report
    from reconciler.report import status as matrix

    desired, observed, plan = planned
    view, training = View(desired, observed), Subject(model=subject.model)
    release = view.release(subject)
    verified = {str(subject): view.verified_at(subject.environment, release) if release else None}
    rows = matrix.rows(desired, observed.swept, plan, verified)
    return report.Explanation(
        row=next(r for r in rows if (r.environment, r.model) == (subject.environment, subject.model)),
        policy=desired.environments[subject.environment].policy,
        judged=tuple(_judged(planned, subject)),
        holds=tuple(hold for hold in plan.holds if hold.subject == subject),
        training=tuple(hold for hold in plan.holds if hold.subject == training),
        coming=tuple(
            report.Coming(
                **item._asdict(),
                why_not=matrix.said_of(plan, Subject(environment=item.environment, model=subject.model)),
            )
            for item in ([] if desired.hidden(subject) else coming(view, subject))
        ),
        next=tuple(action for action in plan.actions if action.subject in (subject, training)),
        orders=counting(view, subject),
    )


def _parted(pair: str) -> tuple[str, str]:
    """Model and environment of ENV/MODEL, which is how most commands name a subject."""
    from reconciler.core.errors import Terminal

    env, _, model = pair.partition("/")
    if not (env and model):
        raise Terminal("Missing argument 'ENV'", hint=f"reconcile explain {pair.strip('/') or 'MODEL'} ENV")
    return model, env


def _known(planned: Planned, env: str, model: str) -> Subject:
    """The subject, if Git knows it; arguments the wrong way round are a common slip."""
    from reconciler.core.base import Subject
    from reconciler.core.errors import Terminal

    subjects = {(subject.environment, subject.model) for subject in planned.desired.subjects}
    if (env, model) in subjects and env in planned.desired.environments:
        return Subject(environment=env, model=model)
    if (model, env) in subjects:
        raise Terminal(f"{model} is an environment", hint=f"reconcile explain {env} {model}")
    pairs = ", ".join(sorted(f"{name} {where}" for where, name in subjects if where))
    raise Terminal(f"{model} is not wanted in {env}", hint=f"main has {pairs or 'no model in an environment'}")


def _judged(planned: Planned, subject: Subject) -> Iterator[Judged]:
    """What the planner judged of this subject, and what let the present pin in."""
    from reconciler.planning.admission import admit_pin
    from reconciler.report.explain import Judged

    desired, observed, plan = planned
    proposed = list(_proposals(planned, subject))
    yield from proposed
    for version, digest, verdict in _verdicts(planned, subject):
        if verdict not in [judged.verdict for judged in proposed]:
            yield Judged(about="candidate", version=version, digest=digest, judged_at=plan.at, verdict=verdict)
    history, release = observed.pins.get(str(subject)), desired.releases.get(str(subject))
    admitted = admit_pin(history, observed, subject) if history else None
    if history and release and admitted:
        pin = release.pin
        yield Judged(
            about="pin", version=pin.version, digest=pin.digest, judged_at=history.at, verdict=admitted
        )


def _verdicts(planned: Planned, subject: Subject) -> Iterator[tuple[str, str, Verdict]]:
    """Version, digest and verdict of what the next tick proposes, or of what is held."""
    from reconciler.core.plan import Hold, OpenPullRequest
    from reconciler.planning.candidates import candidate
    from reconciler.planning.view import View

    desired, observed, plan = planned
    for action in plan.actions:
        if isinstance(action, OpenPullRequest) and action.subject == subject:
            yield action.summary.to_version, "", action.summary.verdict
    held = [hold.verdict for hold in plan.holds if hold.subject == subject and hold.verdict is not None]
    if held:
        wanted = candidate(View(desired, observed), subject)
        version, digest = ("", "") if isinstance(wanted, Hold) else (wanted.pin.version, wanted.pin.digest)
        yield from ((version, digest, verdict) for verdict in held)


def _proposals(planned: Planned, subject: Subject) -> Iterator[Judged]:
    """Open pull requests of ours for this subject, judged at their heads."""
    from reconciler.core.observed import ForgeSweep
    from reconciler.planning.admission import admit_subject
    from reconciler.report.explain import Judged

    desired, observed, plan = planned
    pulls = observed.swept.forge.open if isinstance(observed.swept.forge, ForgeSweep) else {}
    for number, proposal in sorted(observed.proposals.items()):
        marker = pulls[number].marker if number in pulls else None
        if marker is None or (marker.environment, marker.model) != (subject.environment, subject.model):
            continue
        pinned = proposal.state.releases.get(str(subject))
        yield Judged(
            about="proposal",
            version=pinned.pin.version if pinned else "",
            digest=pinned.pin.digest if pinned else "",
            pull_request=number,
            judged_at=plan.at,
            verdict=admit_subject(desired, proposal.state, observed, subject),
        )
