"""Carries a plan out: one write for each action, nothing decided here, nothing waited for.

The actions of one subject run in order, and the first failure skips the rest of that subject only; where people
could not be told, only the mark that they were is skipped. A write that was made already is success. Called by
the loop while it holds the lease.
"""

from __future__ import annotations

from reconciler.core.base import Subject
from reconciler.core.errors import Retryable, TrueupError
from reconciler.core.plan import (
    Action,
    ApplyManifests,
    ClosePullRequest,
    CollectWorkflows,
    MarkVersion,
    MergePullRequest,
    MoveAlias,
    OpenPullRequest,
    Outcome,
    Plan,
    PruneWorkload,
    PublishChecks,
    ReadyPullRequest,
    RemoveAlias,
    StopWorkflow,
    SubmitWorkflow,
    Tell,
    UpdatePullRequest,
)
from reconciler.ports import EngineWriter, ForgeWriter, Writers
from reconciler.report.inert import inert
from reconciler.report.pull_request import body


def apply(plan: Plan, writers: Writers) -> tuple[Outcome, ...]:
    """What became of each action, in the plan's order."""
    outcomes: list[Outcome] = []
    stopped: dict[Subject, str] = {}
    undone: set[str] = set()
    opened: dict[str, int] = {}
    for action in plan.actions:
        stopped_by = stopped.get(action.subject, "") or (action.after if action.after in undone else "")
        outcome = _outcome(action, writers, opened, stopped_by)
        if outcome.result == "failed" and not isinstance(action, Tell):
            stopped[action.subject] = action.key
        if outcome.result in ("failed", "skipped"):
            undone.add(action.key)
        outcomes.append(outcome)
    return tuple(outcomes)


def open_pull_request(action: OpenPullRequest, forge: ForgeWriter) -> int:
    """The number of the pull request, opened or found open. A person's `reconcile rollback` comes here too."""
    return forge.open(
        branch=action.branch,
        base=action.base,
        title=action.title,
        body=body(action.summary, action.marker),
        files=action.files,
        draft=action.draft,
        labels=action.labels,
        reviewers=action.reviewers,
    )


def submit(action: SubmitWorkflow, engine: EngineWriter, asked_by: str = "") -> bool:
    """Whether the run is new. A person's `reconcile retrain` and `reconcile retry` come here too."""
    return engine.submit(
        name=action.name,
        template=action.template,
        commit=action.commit,
        parameters=action.parameters,
        labels=action.labels,
        deadline=action.deadline,
        priority=action.priority,
        parallelism=action.parallelism,
        reason=action.reason,
        asked_by=asked_by,
    )


def update_pull_request(action: UpdatePullRequest, forge: ForgeWriter) -> None:
    forge.update(
        action.number,
        head=action.head,
        base=action.base,
        title=action.title,
        body=body(action.summary, action.marker),
        files=action.files,
        draft=action.draft,
        labels=action.labels,
    )


def _outcome(action: Action, writers: Writers, opened: dict[str, int], stopped_by: str) -> Outcome:
    about = {"key": action.key, "kind": action.kind, "subject": action.subject}
    if stopped_by:
        return Outcome(**about, result="skipped", detail=f"because {stopped_by} failed")
    try:
        detail, changed = _write(action, writers, opened)
    except TrueupError as error:
        return Outcome(**about, result="failed", detail=str(error), retryable=isinstance(error, Retryable))
    except Exception as error:
        return Outcome(**about, result="failed", detail=f"{type(error).__name__}: {error}")
    return Outcome(**about, result="done" if changed else "already", detail=detail)


def _write(action: Action, writers: Writers, opened: dict[str, int]) -> tuple[str, bool]:
    """One write; a word about it, and whether anything changed.

    ``opened`` keeps the numbers of the pull requests that this tick opened, by their actions' keys.
    """
    match action:
        case SubmitWorkflow():
            return action.name, submit(action, writers.engine)
        case StopWorkflow():
            writers.engine.stop(action.name, reason=action.reason)
            return action.name, True
        case CollectWorkflows():
            for name in action.names:
                writers.engine.delete(name)
            return ", ".join(action.names), True
        case MarkVersion():
            registry = writers.registries[action.registry]
            registry.set_tag(action.name, action.version, action.tag, action.value)
            return action.tag, True
        case MoveAlias():
            writers.registries[action.registry].set_alias(action.name, action.alias, action.version)
            return f"{action.alias} is version {action.version}", True
        case RemoveAlias():
            writers.registries[action.registry].delete_alias(action.name, action.alias)
            return action.alias, True
        case UpdatePullRequest():
            update_pull_request(action, writers.forge)
            return f"#{action.number}", True
        case OpenPullRequest():
            number = opened[action.key] = open_pull_request(action, writers.forge)
            return f"#{number}", True
        case ClosePullRequest():
            writers.forge.close(action.number, reason=inert(action.reason))  # it may quote a model's text
            return f"#{action.number}", True
        case MergePullRequest():
            commit = writers.forge.merge(action.number, head=action.head, message=action.title)
            return f"#{action.number} as {commit[:12]}", True
        case ApplyManifests():
            changed = writers.clusters[action.cluster].apply(
                environment=action.subject.environment,
                model=action.subject.model,
                namespace=action.namespace,
                manifests=action.manifests,
            )
            return ", ".join(sorted(action.manifests)), changed
        case PruneWorkload():
            writers.clusters[action.cluster].prune(
                environment=action.environment,
                model=action.model,
                namespace=action.namespace,
                objects=action.objects,
            )
            return ", ".join(action.objects), True
        case Tell():
            about = action.message.pull_request or opened.get(action.after)
            message = action.message.model_copy(update={"pull_request": about})
            writers.notifiers[action.notifier].send(message, key=action.key)
            return action.notifier, True
        case PublishChecks():
            writers.forge.publish(action.number, head=action.head, checks=action.checks)
            return f"#{action.number}", True
        case ReadyPullRequest():
            writers.forge.ready(action.number, head=action.head)
            return f"#{action.number}", True
