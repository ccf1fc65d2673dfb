"""The matrix: which version of each model each environment has, since when, in what state, and why no further.

Called by ``reconcile status``. :func:`rows` makes the data, one record a subject; the rest words it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from reconciler.core.base import Frozen, Instant, Subject, format_instant
from reconciler.core.desired import DesiredState
from reconciler.core.documents import Environment, Release
from reconciler.core.observed import (
    ClusterSweep,
    EngineSweep,
    Gap,
    ModelVersion,
    RegistrySweep,
    Swept,
    WorkflowRun,
    Workload,
)
from reconciler.core.plan import Plan
from reconciler.core.progress import Progress
from reconciler.report.actions import SYMBOLS
from reconciler.report.inert import visible
from reconciler.report.layout import BLANK, Block, Grid, Line, Span, Style, cell, line, sections

State = Literal[
    "none",  # nothing is pinned, or nothing is to be trained
    "merged",  # pinned, and nothing of it runs yet
    "progressing",
    "soaking",  # healthy, and not yet for long enough
    "verified",
    "paused",
    "degraded",
    "aborted",
    "unadmitted",  # pinned without having been admissible; nothing of it is applied
    "unknown",  # a source did not answer
    # of a model's training, which is in no environment:
    "trained",
    "training",
    "failed",
    "untrained",
    "external",  # trained elsewhere; the version that its alias names
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
    "trained": "good",
    "training": "note",
    "failed": "bad",
    "untrained": "warn",
    "external": "good",
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
    """One model in one environment, or its training, in none. ``since``: when it came into this state."""

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


class Running(Frozen):
    """A run that is going on. ``progress``: what its tasks last said of it, one each that said something."""

    run: WorkflowRun
    progress: tuple[Progress, ...] = ()


class Matrix(NamedTuple):
    """All that ``reconcile status`` shows. ``environments`` upstream before downstream."""

    at: datetime
    rows: tuple[Row, ...]
    environments: tuple[str, ...]
    running: tuple[Running, ...] = ()
    gaps: tuple[Gap, ...] = ()

    @property
    def lasting(self) -> object:
        """What is no news when it comes again: everything but the time and how far a run is."""
        return self.rows, [(each.run.name, each.run.phase) for each in self.running], self.gaps


def rows(
    desired: DesiredState, swept: Swept, plan: Plan, verified: Mapping[str, Instant | None]
) -> tuple[Row, ...]:
    """Every subject, models first by name, each with its training before its environments.

    ``verified``: ENV/MODEL -> when its pin was verified there.
    """
    order = ["", *environments_in_order(desired)]

    def place(subject: Subject) -> tuple[str, int]:
        known = subject.environment in order
        return subject.model, order.index(subject.environment) if known else len(order)

    return tuple(
        _row(desired, swept, plan, verified.get(str(subject)), subject)
        if subject.environment
        else _training(desired, swept, plan, subject)
        for subject in sorted(desired.subjects, key=place)
    )


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


def _training(desired: DesiredState, swept: Swept, plan: Plan, subject: Subject) -> Row:
    """The version of main's training key, or where the last attempt at it stands."""
    key, roots = desired.training_key(subject.model), desired.roots(subject.model)
    model = desired.models[subject.model].model
    sweep = swept.registries.get(desired.environments[roots[0]].registry) if roots else None
    registered = sweep.models.get(model.registered_name) if isinstance(sweep, RegistrySweep) else None
    versions = registered.versions if registered else ()
    found: ModelVersion | None = None
    if registered and model.training.external:
        found = registered.version(registered.aliases.get(model.training.external.alias, ""))
    elif key is not None:
        found = next((v for v in reversed(versions) if v.training_key == key and v.digest and v.ready), None)
    attempts = [] if isinstance(swept.engine, Gap) else _attempts(swept.engine, subject.model, key)
    last = attempts[-1] if attempts else None
    state, since = _trained(found, last)
    if not roots:
        state, since = "none", None
    elif isinstance(sweep, Gap) or (found is None and isinstance(swept.engine, Gap)):
        state, since = "unknown", None
    elif model.training.external:
        state = "external"
    return Row(
        model=subject.model,
        environment="",
        version=found.version if found else None,
        digest=found.digest if found else None,
        state=state,
        since=since,
        why_not=said_of(plan, subject),
    )


def _attempts(engine: EngineSweep, model: str, key: str | None) -> list[WorkflowRun]:
    """The trainings of this key, oldest first."""
    wanted = {"trueup.dev/kind": "train", "trueup.dev/model": model, "trueup.dev/key": key or ""}
    found = [run for run in engine.runs.values() if wanted.items() <= run.labels.items()]
    return sorted(found, key=lambda run: (run.started is None, run.started or run.name, run.name))


def _trained(found: ModelVersion | None, last: WorkflowRun | None) -> tuple[State, Instant | None]:
    if found is not None:
        return "trained", found.created
    if last is None:
        return "untrained", None
    if not last.done:
        return "training", last.started
    return ("untrained" if last.phase == "Succeeded" else "failed"), last.finished


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


def blocks(matrix: Matrix, ages: bool = False) -> list[Block]:
    """The matrix, what is running, a sentence for each subject that goes no further, and what was not seen.

    ``ages``: durations beside the instants, for a person who looks now; a text that is kept has none.
    """
    if not any(row.environment for row in matrix.rows):
        return [
            line("No model names an environment. A model goes where `environments` of its model.yaml says.")
        ]
    now = matrix.at if ages else None
    said: list[Block] = []
    for row in sorted(matrix.rows, key=lambda row: bool(row.environment)):
        if not row.why_not:
            continue
        said += [BLANK] if said else []
        said.append(line(Span(_subject(row), "strong")))
        for reason in row.why_not:
            said.append(line(Span(f"{reason.symbol} {reason.code}", reason.style), indent=2, hang=2))
            said.append(line(Span(visible(reason.what), "dim"), indent=4))
    unseen = [line(Span(f"? {gap.source}", "bad"), f": {visible(gap.error)}", hang=4) for gap in matrix.gaps]
    return sections([_table(matrix, now)], _running(matrix.running, now), said, unseen)


def headline(matrix: Matrix) -> Line:
    """The head of one look among many."""
    return line(Span(f"seen at {format_instant(matrix.at.replace(microsecond=0))}", "dim"))


def _subject(row: Row) -> str:
    return f"{row.environment}/{row.model}" if row.environment else row.model


def _table(matrix: Matrix, now: datetime | None) -> Grid:
    """A line a model, and below it the first reason why it is no further; narrower, the instants below too."""
    unknown = {row.environment for row in matrix.rows} - {"", *matrix.environments}
    names = ["", *matrix.environments, *sorted(unknown)]
    by = {(row.model, row.environment): row for row in matrix.rows}
    models = {m: [by.get((m, name)) for name in names] for m in dict.fromkeys(row.model for row in matrix.rows)}
    head = ("MODEL", *(_heading(name) for name in names))
    wide: list[tuple[Span, ...]] = []
    tight: list[tuple[Span, ...]] = []
    for model, row in models.items():
        whys = _below(_first(each) for each in row)
        title = cell(model, "strong")
        wide += [(title, *(_entry(each, now, _since) for each in row)), *whys]
        when = _below(Span(moment(each.since) if each and each.since else "", "dim") for each in row)
        tight += [(title, *(_entry(each, now, _aged) for each in row)), *when, *whys]
    listed = tuple(_listed(names, models, now))
    return Grid(head, tuple(wide), narrow=(Grid(head, tuple(tight), narrow=listed),))


_Told = Callable[[datetime | None, datetime | None], str]
"""How the instant since which something is so is said, now."""


def _below(cells: Iterable[Span]) -> list[tuple[Span, ...]]:
    """A row that goes on with the one above it, if there is anything in it."""
    row = (Span(""), *cells)
    return [row] if any(span.text for span in row) else []


def _listed(
    names: Sequence[str], models: Mapping[str, Sequence[Row | None]], now: datetime | None
) -> list[Line]:
    """A model after the other, for a terminal that is too narrow for any table."""
    wide = max(len(_heading(name)) for name in names) + 2
    lines: list[Line] = []
    for model, rows in models.items():
        lines += [BLANK] if lines else []
        lines.append(line(Span(model, "strong")))
        for name, row in zip(names, rows, strict=True):
            if row is None:
                continue
            label = Span(_heading(name).lower().ljust(wide), "dim")
            lines.append(line(label, _entry(row, now, _since), indent=2, hang=wide))
            lines += [line(_first(row), indent=2 + wide)] if row.why_not else []
    return lines


def _heading(environment: str) -> str:
    return environment.upper() or "TRAINING"


def _entry(row: Row | None, now: datetime | None, told: _Told) -> Span:
    if row is None:
        return cell("")
    version = f"v{row.version} " if row.version else ""
    return cell(f"{version}{row.state}{told(row.since, now)}", row.style)


def _first(row: Row | None) -> Span:
    if row is None or not row.why_not:
        return Span("")
    reason = row.why_not[0]
    return Span(f"{reason.symbol} {reason.code}", reason.style)


def _running(running: Sequence[Running], now: datetime | None) -> list[Block]:
    said: list[Block] = [line(Span("Running", "strong"))] if running else []
    for run, progress in ((each.run, each.progress) for each in running):
        done = f", {run.progress} tasks done" if run.progress else ""
        state = f"{run.phase.lower()}{_since(run.started, now)}{done}"
        said.append(line(Span(run.name, "note"), f"  {state}", indent=2, hang=2))
        said += [line(str(each), indent=4, hang=2) for each in progress]
    return said


def _since(since: datetime | None, now: datetime | None) -> str:
    return f" since {moment(since)}{_aged(since, now)}" if since else ""


def _aged(since: datetime | None, now: datetime | None) -> str:
    return f" ({age(now - since)})" if since and now else ""


def age(passed: timedelta) -> str:
    """In the one unit that a person would say it in: ``3 d``, ``5 h``, ``12 min``, ``40 s``."""
    seconds = max(0, int(passed.total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def moment(value: datetime) -> str:
    """To the minute, in UTC: ``2026-03-01 12:00Z``."""
    return format_instant(value.replace(second=0, microsecond=0)).replace("T", " ").replace(":00Z", "Z")
