"""Budgets and tripwires, over the decisions of all subjects.

A budget lets the first N go, by (priority, key), and the rest wait. A tripwire stops its class in that
environment altogether once there are more than N: so many at once are hardly meant. Everything else proceeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TypeVar

from reconciler.core.base import Subject
from reconciler.core.documents import Limits
from reconciler.core.observed import TAG_ARCHIVED, EngineSweep, ForgeSweep
from reconciler.core.plan import (
    Action,
    CollectWorkflows,
    Hold,
    MarkVersion,
    MergePullRequest,
    OpenPullRequest,
    PruneWorkload,
    RemoveAlias,
    SubmitWorkflow,
    UpdatePullRequest,
)
from reconciler.planning.decision import Decision
from reconciler.planning.holds import hold
from reconciler.planning.telling import tell_environment
from reconciler.planning.view import View

Decisions = dict[Subject, Decision]
MINUTE = timedelta(minutes=1)
TIDIED = 100
"""Finished runs that one tick deletes, and versions that it archives, over all models: the rest is no hurry."""
_Costly = TypeVar("_Costly", SubmitWorkflow, OpenPullRequest)


def limited(view: View, decisions: Decisions) -> tuple[Decisions, tuple[str, ...]]:
    """The decisions that the limits leave, and a sentence for each tripwire that stopped a class."""
    decisions = _once_each(decisions)
    tripped: list[str] = []
    for name, environment in sorted(view.desired.environments.items()):
        limits = environment.limits
        decisions = _trip(
            decisions, name, limits.deletes, "deletes", tripped, lambda a: isinstance(a, PruneWorkload)
        )
        decisions = _trip(
            decisions,
            name,
            limits.alias_removals,
            "aliasRemovals",
            tripped,
            lambda a: isinstance(a, RemoveAlias),
        )
        decisions = _outage(view, decisions, name, limits.rollbacks, tripped)
        decisions = _submissions(view, decisions, name, limits)
        decisions = _pull_requests(view, decisions, name, limits.open_pull_requests)
    return _whole(_tidying(decisions)), tuple(tripped)


def _once_each(decisions: Decisions) -> Decisions:
    """Two environments may want the same: the first asks, and the other waits for what takes time.

    A mark is there when this tick is over, so nobody waits for it.
    """
    seen: set[str] = set()
    left: Decisions = {}
    for subject, decision in decisions.items():
        actions: list[Action] = []
        holds = list(decision.holds)
        for action in decision.actions:
            if action.key in seen:
                if isinstance(action, SubmitWorkflow):
                    what = f"{action.name} is asked for by another environment in this tick"
                    holds.append(hold("measuring", subject, what))
                continue
            seen.add(action.key)
            actions.append(action)
        left[subject] = Decision(tuple(actions), tuple(holds))
    return left


def _trip(
    decisions: Decisions,
    environment: str,
    limit: int,
    what: str,
    tripped: list[str],
    is_one: Callable[[Action], bool],
) -> Decisions:
    count = sum(is_one(a) for s, d in decisions.items() if s.environment == environment for a in d.actions)
    if count <= limit:
        return decisions
    sentence = f"{environment}: {count} {what} at once, and limits.{what} is {limit}; raise it if this is meant"
    tripped.append(sentence)
    return _without(decisions, environment, is_one, lambda s: hold("tripwire", s, sentence))


def _outage(view: View, decisions: Decisions, environment: str, limit: int, tripped: list[str]) -> Decisions:
    """Many releases failing at once are not each at fault: hold all, tell people once."""

    def is_rollback(action: Action) -> bool:
        if isinstance(action, (OpenPullRequest, UpdatePullRequest)):
            return action.marker.intent == "rollback" and not action.marker.asked_by
        if not isinstance(action, MergePullRequest) or not action.branch.startswith("trueup/rollback/"):
            return False
        pull = view.open_pull("rollback", action.subject)
        return pull is None or pull.marker is None or not pull.marker.asked_by

    failing = [
        s for s, d in decisions.items() if s.environment == environment and any(map(is_rollback, d.actions))
    ]
    if len(failing) <= limit:
        return decisions
    names = ", ".join(s.model for s in failing[:10])
    sentence = (
        f"{environment}: {len(failing)} releases would be rolled back at once ({names}), and limits.rollbacks "
        f"is {limit}: an outage, not their fault; nothing is rolled back until it is over"
    )
    tripped.append(sentence)
    left = _without(decisions, environment, is_rollback, lambda s: hold("outage", s, sentence))
    first = failing[0]
    release = view.release(first)
    if release is not None:
        title = f"an outage in {environment}: nothing is rolled back"
        told = tell_environment(view, first, release, "outage", title, sentence)
        left[first] = left[first].and_then(told)
    return left


def _submissions(view: View, decisions: Decisions, environment: str, limits: Limits) -> Decisions:
    engine = view.observed.swept.engine
    running = [
        run
        for run in (engine.runs.values() if isinstance(engine, EngineSweep) else ())
        if not run.done and run.labels.get("trueup.dev/environment") == environment
    ]
    slots = limits.submissions - len(running)
    begun = [
        run
        for run in (engine.runs.values() if isinstance(engine, EngineSweep) else ())
        if run.labels.get("trueup.dev/environment") == environment
        and (view.at - run.started < MINUTE if run.started else not run.done)
    ]
    left = limits.submissions_per_minute - len(begun)
    hours = limits.gpu_hours - sum(
        _gpu_hours(view, run.labels.get("trueup.dev/model", ""))
        for run in running
        if run.labels.get("trueup.dev/kind") == "train"
    )
    wanted = [
        action
        for decision in decisions.values()
        for action in decision.actions
        if isinstance(action, SubmitWorkflow) and action.labels["trueup.dev/environment"] == environment
    ]
    waiting: dict[str, str] = {}
    for action in _by_priority(view, wanted):
        cost = _gpu_hours(view, action.subject.model) if action.labels["trueup.dev/kind"] == "train" else 0
        if slots < 1:
            waiting[action.key] = (
                f"{action.name} waits: limits.submissions of {environment} is {limits.submissions}"
            )
        elif left < 1:
            per_minute = limits.submissions_per_minute
            waiting[action.key] = (
                f"{action.name} waits: limits.submissionsPerMinute of {environment} is {per_minute}"
            )
        elif cost > hours:
            waiting[action.key] = f"{action.name} waits: limits.gpuHours of {environment} is {limits.gpu_hours}"
        else:
            slots, left, hours = slots - 1, left - 1, hours - cost
    return _delay(decisions, waiting)


def _pull_requests(view: View, decisions: Decisions, environment: str, limit: int) -> Decisions:
    forge = view.observed.swept.forge
    now = Counter(
        pull.marker.environment
        for pull in (forge.open.values() if isinstance(forge, ForgeSweep) else ())
        if pull.ours and pull.marker is not None
    )[environment]
    wanted = [
        action
        for subject, decision in decisions.items()
        if subject.environment == environment
        for action in decision.actions
        if isinstance(action, OpenPullRequest)
        and not isinstance(action, UpdatePullRequest)
        and action.marker.intent == "promote"
    ]
    waiting = {
        action.key: f"{action.title} waits: limits.openPullRequests of {environment} is {limit}"
        for action in _by_priority(view, wanted)[max(limit - now, 0) :]
    }
    return _delay(decisions, waiting)


def _tidying(decisions: Decisions) -> Decisions:
    """The first of them; what waits keeps its subject in motion, and is nothing that a person asked for."""
    left, done = {}, 0
    for subject, decision in decisions.items():
        actions = []
        for action in decision.actions:
            size = len(action.names) if isinstance(action, CollectWorkflows) else int(_archives(action))
            if size and done >= TIDIED:
                continue
            done += size
            actions.append(action)
        left[subject] = Decision(tuple(actions), decision.holds)
    return left


def _whole(decisions: Decisions) -> Decisions:
    """Without what makes no sense any more: nobody is told of a pull request that has to wait."""
    left = {}
    for subject, decision in decisions.items():
        kept: dict[str, Action] = {}
        for action in decision.actions:
            if not action.after or action.after in kept:
                kept[action.key] = action
        left[subject] = Decision(tuple(kept.values()), decision.holds)
    return left


def _archives(action: Action) -> bool:
    return isinstance(action, MarkVersion) and action.tag == TAG_ARCHIVED


def _by_priority(view: View, actions: Iterable[_Costly]) -> list[_Costly]:
    def rank(action: _Costly) -> tuple[int, str]:
        source = view.desired.models.get(action.subject.model)
        return (-source.model.priority if source else 0, action.key)

    return sorted(actions, key=rank)


def _gpu_hours(view: View, model: str) -> int:
    source = view.desired.models.get(model)
    if source is None:
        return 0
    training = source.model.training
    return training.compute.gpus * training.compute.hours * (training.parallelism or 1)


def _delay(decisions: Decisions, waiting: dict[str, str]) -> Decisions:
    left: Decisions = {}
    for subject, decision in decisions.items():
        actions = tuple(a for a in decision.actions if a.key not in waiting)
        holds = tuple(hold("budget", subject, waiting[a.key]) for a in decision.actions if a.key in waiting)
        left[subject] = Decision(actions, decision.holds + holds)
    return left


def _without(
    decisions: Decisions, environment: str, is_one: Callable[[Action], bool], why: Callable[[Subject], Hold]
) -> Decisions:
    left: Decisions = {}
    for subject, decision in decisions.items():
        stopped = subject.environment == environment and any(map(is_one, decision.actions))
        actions = tuple(a for a in decision.actions if not (stopped and is_one(a)))
        left[subject] = Decision(actions, decision.holds + ((why(subject),) if stopped else ()))
    return left
