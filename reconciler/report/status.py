"""The matrix: which version of each model each environment has, since when, in what state, and why no further.

Called by ``reconcile status``. :func:`rows` makes the data, one record a subject; the rest words it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from reconciler.core.base import Frozen, Instant, Subject, format_instant
from reconciler.core.desired import DesiredState
from reconciler.core.documents import Environment, Release
from reconciler.core.observed import ClusterSweep, Gap, RegistrySweep, Swept, Workload
from reconciler.core.plan import Plan
from reconciler.report.actions import SYMBOLS
from reconciler.report.inert import visible
from reconciler.report.layout import BLANK, Block, Grid, Span, Style, cell, line, sections

State = Literal[
    "none",  # nothing is pinned
    "merged",  # pinned, and nothing of it runs yet
    "progressing",
    "soaking",  # healthy, and not yet for long enough
    "verified",
    "paused",
    "degraded",
    "aborted",
    "unadmitted",  # pinned without having been admissible; nothing of it is applied
    "unknown",  # a source did not answer
]
_STYLES: dict[State, Style] = {
    "none": "dim",
    "merged": "note",
    "progressing": "note",
    "soaking": "note",
    "verified": "good",
    "paused": "warn",
    "degraded": "bad",
    "aborted": "bad",
    "unadmitted": "bad",
    "unknown": "warn",
}


class Reason(Frozen):
    """Why a subject goes no further now: a hold's code and sentence, or an action that the next tick takes."""

    code: str
    what: str
    person: bool = False
    planned: bool = False

    @property
    def symbol(self) -> str:
        return SYMBOLS[self.code] if self.planned else "!" if self.person else "="

    @property
    def style(self) -> Style:
        return "good" if self.planned else "warn" if self.person else "note"


class Row(Frozen):
    """One model in one environment. ``since``: when it came into this state."""

    model: str
    environment: str
    version: str | None = None
    digest: str | None = None
    release: str | None = None
    state: State
    since: Instant | None = None
    verified_at: Instant | None = None
    endpoint: str | None = None
    alias: str | None = None
    alias_version: str | None = None
    why_not: tuple[Reason, ...] = ()

    @property
    def style(self) -> Style:
        return _STYLES[self.state]


def rows(
    desired: DesiredState, swept: Swept, plan: Plan, verified: Mapping[str, Instant | None]
) -> tuple[Row, ...]:
    """Every subject, models first by name. ``verified``: ENV/MODEL -> when its pin was verified there."""
    order = environments_in_order(desired)
    known = [s for s in desired.subjects if s.environment]
    known.sort(key=lambda s: (s.model, order.index(s.environment) if s.environment in order else len(order)))
    return tuple(_row(desired, swept, plan, verified.get(str(subject)), subject) for subject in known)


def training(desired: DesiredState, plan: Plan) -> dict[str, tuple[Reason, ...]]:
    """What is said about models themselves, in no environment: their training."""
    return {name: said for name in sorted(desired.models) if (said := said_of(plan, Subject(model=name)))}


def environments_in_order(desired: DesiredState) -> list[str]:
    """Upstream before downstream, then by name."""

    def depth(name: str, seen: frozenset[str] = frozenset()) -> int:
        environment = desired.environments.get(name)
        if environment is None or environment.promotes_from is None or name in seen:
            return 0
        return 1 + max(depth(up, seen | {name}) for up in environment.promotes_from.environments)

    return sorted(desired.environments, key=lambda name: (depth(name), name))


def _row(desired: DesiredState, swept: Swept, plan: Plan, verified_at: Instant | None, subject: Subject) -> Row:
    release = desired.releases.get(str(subject))
    environment = desired.environments.get(subject.environment)
    source = desired.models.get(subject.model)
    workload = _workload(swept, environment, subject)
    codes = {hold.code for hold in plan.holds if hold.subject == subject}
    state, since = _state(release, workload, verified_at, codes)
    registry = swept.registries.get(environment.registry) if environment else None
    alias_version = None
    if environment and source and isinstance(registry, RegistrySweep):
        registered = registry.models.get(source.model.registered_name)
        alias_version = registered.aliases.get(environment.alias) if registered else None
    return Row(
        model=subject.model,
        environment=subject.environment,
        version=release.pin.version if release else None,
        digest=release.pin.digest if release else None,
        release=release.digest if release else None,
        state=state,
        since=since,
        verified_at=verified_at,
        endpoint=(workload.endpoint or None) if isinstance(workload, Workload) else None,
        alias=environment.alias if environment else None,
        alias_version=alias_version,
        why_not=said_of(plan, subject),
    )


def _state(
    release: Release | None, workload: Workload | Gap | None, verified_at: Instant | None, codes: set[str]
) -> tuple[State, Instant | None]:
    if release is None:
        return "none", None
    if "unadmitted" in codes:
        return "unadmitted", None
    if release.serving == "none":
        return ("verified", verified_at) if verified_at else ("merged", None)
    if isinstance(workload, Gap):
        return "unknown", None
    if workload is None or workload.release != release.digest:
        return "merged", release.admission.judged_at
    match workload.health:
        case "Healthy":
            return ("verified", verified_at) if verified_at else ("soaking", workload.since)
        case "Progressing":
            return "progressing", workload.since
        case "Paused":
            return "paused", workload.since
        case "Degraded":
            return "degraded", workload.since
        case "Aborted":
            return "aborted", workload.since
        case "Missing":
            return "merged", workload.since


def _workload(swept: Swept, environment: Environment | None, subject: Subject) -> Workload | Gap | None:
    if environment is None:
        return None
    sweep = swept.clusters.get(environment.cluster)
    if not isinstance(sweep, ClusterSweep):
        return sweep
    return sweep.gaps.get(environment.namespace) or sweep.workloads.get(str(subject))


def said_of(plan: Plan, subject: Subject) -> tuple[Reason, ...]:
    """What a plan says of one subject: its holds, then what the next tick does."""
    holds = [Reason(code=h.code, what=h.reason, person=h.person) for h in plan.holds if h.subject == subject]
    nexts = [Reason(code=a.kind, what=a.reason, planned=True) for a in plan.actions if a.subject == subject]
    return (*holds, *nexts)


# --- wording ----------------------------------------------------------------------------------------------


def blocks(
    table: Sequence[Row],
    about_training: Mapping[str, tuple[Reason, ...]],
    environments: Sequence[str],
    gaps: Sequence[Gap] = (),
) -> list[Block]:
    """The matrix, then a sentence for each subject that goes no further, then what could not be seen."""
    if not table:
        return [
            line("No model names an environment. A model goes where `environments` of its model.yaml says.")
        ]
    said: list[Block] = []
    for subject, reasons in _why(table, about_training):
        said += [BLANK] if said else []
        said.append(line(Span(subject, "strong")))
        for reason in reasons:
            said.append(line(Span(f"{reason.symbol} {reason.code}", reason.style), indent=2, hang=2))
            said.append(line(Span(visible(reason.what), "dim"), indent=4))
    unseen = [line(Span(f"? {gap.source}", "bad"), f": {visible(gap.error)}", hang=4) for gap in gaps]
    return sections([_matrix(table, environments)], said, unseen)


def _matrix(table: Sequence[Row], environments: Sequence[str]) -> Grid:
    names = [*environments, *sorted({row.environment for row in table} - set(environments))]
    by = {(row.model, row.environment): row for row in table}
    models = dict.fromkeys(row.model for row in table)
    return Grid(
        ("MODEL", *(name.upper() for name in names)),
        tuple((cell(model, "strong"), *(_entry(by.get((model, name))) for name in names)) for model in models),
    )


def _entry(row: Row | None) -> Span:
    if row is None:
        return cell("")
    if row.version is None:
        return cell(row.state, row.style)
    since = f" since {moment(row.since)}" if row.since else ""
    return cell(f"v{row.version} {row.state}{since}", row.style)


def _why(
    table: Sequence[Row], about_training: Mapping[str, tuple[Reason, ...]]
) -> list[tuple[str, tuple[Reason, ...]]]:
    models = [(name, reasons) for name, reasons in about_training.items()]
    pairs = [(f"{row.environment}/{row.model}", row.why_not) for row in table if row.why_not]
    return [*models, *pairs]


def moment(value: datetime) -> str:
    """To the minute, in UTC: ``2026-03-01 12:00Z``."""
    return format_instant(value.replace(second=0, microsecond=0)).replace("T", " ").replace(":00Z", "Z")
