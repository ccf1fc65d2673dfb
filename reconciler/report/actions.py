"""What each kind of action looks like to a person: a symbol and its target. One table for every report."""

from __future__ import annotations

from reconciler.core.digests import short
from reconciler.core.plan import (
    Action,
    ApplyManifests,
    ClosePullRequest,
    CollectWorkflows,
    MarkVersion,
    MergePullRequest,
    MoveAlias,
    OpenPullRequest,
    PruneWorkload,
    PublishChecks,
    ReadyPullRequest,
    RemoveAlias,
    StopWorkflow,
    SubmitWorkflow,
    Tell,
    UpdatePullRequest,
)
from reconciler.report.layout import Style

SYMBOLS: dict[str, str] = {
    "submit-workflow": "+",
    "open-pull-request": "+",
    "publish-checks": "+",
    "tell": "+",
    "mark-version": "~",
    "move-alias": "~",
    "update-pull-request": "~",
    "ready-pull-request": "~",
    "merge-pull-request": "~",
    "apply-manifests": "~",
    "close-pull-request": "-",
    "remove-alias": "-",
    "prune-workload": "-",
    "stop-workflow": "-",
    "collect-workflows": "-",
}
STYLES: dict[str, Style] = {"+": "good", "~": "warn", "-": "bad"}


def target(action: Action) -> str:
    """What the action writes, in as many words as it takes to find it."""
    match action:
        case SubmitWorkflow():
            return action.name
        case StopWorkflow():
            return action.name
        case CollectWorkflows():
            return ", ".join(action.names)
        case MarkVersion():
            return f"{action.name} version {action.version}: {action.tag}"
        case MoveAlias():
            before = f"version {action.current}" if action.current else "nothing"
            return f"{action.name}@{action.alias}: {before} -> version {action.version}"
        case RemoveAlias():
            return f"{action.name}@{action.alias}: version {action.current} -> nothing"
        case UpdatePullRequest():
            return f"#{action.number} {action.title}"
        case OpenPullRequest():
            return action.title
        case ClosePullRequest():
            return f"#{action.number} {action.branch}"
        case MergePullRequest():
            return f"#{action.number} {action.title} (head {action.head[:7]})"
        case ApplyManifests():
            files = "1 manifest" if len(action.manifests) == 1 else f"{len(action.manifests)} manifests"
            where = f"{action.cluster}/{action.namespace}"
            return f"{files} of {action.subject} to {where} (release {short(action.release)})"
        case PruneWorkload():
            return f"{', '.join(action.objects)} of {action.subject} in {action.cluster}/{action.namespace}"
        case Tell():
            return f"{action.notifier}: {action.message.title}"
        case PublishChecks():
            said = ", ".join(f"{check.name} {check.state}" for check in action.checks)
            return f"#{action.number} at {action.head[:7]}: {said}"
        case ReadyPullRequest():
            return f"#{action.number} is no draft any more"
