"""When a training that is called for has to wait: for its schedule, its cooldown, its hours of the day. Pure.

Asked by :mod:`.training`. What is known of earlier trainings is what the registry and the engine show: versions
with a training key, and runs for as long as they are kept. docs/retraining.md has the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise

from reconciler.core.base import Subject, show_instant
from reconciler.core.observed import RegisteredModel, WorkflowRun
from reconciler.core.plan import Hold
from reconciler.planning.holds import hold
from reconciler.planning.view import View

DAY = timedelta(days=1)


def cooling_down(view: View, subject: Subject, registered: RegisteredModel, why: str) -> Hold | None:
    """The hold of a model whose last training is too short a time ago."""
    cooldown = view.model(subject).training.retrain.cooldown
    last = max(_ended(view, subject, registered), default=None)
    if cooldown is None or last is None or view.at >= last + cooldown:
        return None
    until = show_instant(last + cooldown)
    return hold("cooling-down", subject, f"{why}; the cooldown ends at {until}; {by_hand(subject)}")


def over_budget(view: View, subject: Subject) -> Hold | None:
    """The hold of a model that has trained for its hours of the day; an attempt of any number waits for it."""
    hours = view.model(subject).training.retrain.hours_per_day
    spans = [(r.started, r.finished or view.at) for r in _runs(view, subject) if r.started]
    if hours is None or (room := room_at(timedelta(hours=hours), spans, view.at)) <= view.at:
        return None
    said = f"training.retrain.hoursPerDay is {hours:g}, and used up until {show_instant(room)}"
    return hold("training-budget", subject, f"{said}; {by_hand(subject)}")


def due(view: View, subject: Subject, registered: RegisteredModel) -> datetime | None:
    """The first instant of the model's schedule after its last training began; None without a schedule."""
    schedule = view.model(subject).training.retrain.schedule
    last = max(_began(view, subject, registered), default=None)
    return schedule.after(last) if schedule is not None and last is not None else None


def by_hand(subject: Subject) -> str:
    return f"`reconcile retrain {subject.model} --reason ...` waits for nothing"


def room_at(budget: timedelta, spans: list[tuple[datetime, datetime]], at: datetime) -> datetime:
    """When the day that ends then has less of ``spans`` in it than ``budget``; ``at`` where it is so now.

    ``spans`` are (began, ended), the end no later than ``at``: nothing is added while one waits. What is left
    of them in the day is a line that falls piece by piece, and bends where a span begins or ends to leave it.
    """

    def used(then: datetime) -> timedelta:
        return sum((max(ended - max(began, then - DAY), timedelta(0)) for began, ended in spans), timedelta(0))

    bends = sorted({at, *(moment + DAY for span in spans for moment in span if moment + DAY > at)})
    if used(at) < budget:
        return at
    before, after = next((a, b) for a, b in pairwise(bends) if used(b) < budget)
    return before + (after - before) * ((used(before) - budget) / (used(before) - used(after)))


def _began(view: View, subject: Subject, registered: RegisteredModel) -> Iterator[datetime]:
    """When trainings began; of a version whose run is gone, when it was registered."""
    runs = list(_counted(view, subject))
    known = {run.labels.get("trueup.dev/key") for run in runs}
    yield from (run.started for run in runs if run.started)
    yield from (v.created for v in registered.versions if v.training_key and v.training_key not in known)


def _ended(view: View, subject: Subject, registered: RegisteredModel) -> Iterator[datetime]:
    """When trainings registered their versions; of those that did not, when they began."""
    yield from (run.started for run in _counted(view, subject) if run.started)
    yield from (version.created for version in registered.versions if version.training_key)


def _counted(view: View, subject: Subject) -> Iterator[WorkflowRun]:
    """Trainings that ended otherwise than because main went on. Asked while none of main's own is under way."""
    return (run for run in _runs(view, subject) if run.done and not run.superseded)


def _runs(view: View, subject: Subject) -> Iterator[WorkflowRun]:
    """Every training that is not still waiting for its place."""
    runs = view.runs_about(subject.model)
    return (run for run in runs if run.labels.get("trueup.dev/kind") == "train" and run.phase != "Pending")
