"""The pages of `reconcile web`: one look at everything, filled into templates. Nothing here can write.

A page rests on a plan that is at most ``patience`` seconds old, whoever asks: looking is a sweep of every
system. Where a look fails, the last one is shown, and said to be the last one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from reconciler.cli.explain import explanation
from reconciler.cli.history import changes
from reconciler.cli.status import matrix_of
from reconciler.core.base import Subject
from reconciler.core.errors import Terminal, TrueupError
from reconciler.core.evidence import CATALOGUE, Evidence
from reconciler.core.observed import (
    EngineSweep,
    ForgeSweep,
    Gap,
    Mark,
    ModelVersion,
    RegistrySweep,
    WorkflowRun,
)
from reconciler.look import read_evidence
from reconciler.loop import Planned, plan_once
from reconciler.planning.in_motion import EVERYTHING, Scope
from reconciler.planning.view import View
from reconciler.report import chart, history, html, status

if TYPE_CHECKING:
    from reconciler.core.desired import DesiredState
    from reconciler.ports import Readers
    from reconciler.report.status import Matrix

HERE = ["localhost", "127.0.0.1"]
"""The only names that the pages answer to, so that a page elsewhere cannot have a browser read them under its
own (DNS rebinding)."""
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"}
ENDED = 30
"""Finished runs that the overview lists."""
CHARTED = 30
"""Versions that a chart goes back, without those that are archived."""
PHASES = {
    "Pending": "note",
    "Running": "note",
    "Succeeded": "good",
    "Cancelled": "warn",
    "Failed": "bad",
    "Error": "bad",
}


class Look(NamedTuple):
    """What a page rests on: a plan; of everything the matrix that it makes, of one model its past.

    ``failed`` says why there is nothing newer, where that is so.
    """

    planned: Planned
    matrix: Matrix | None
    history: dict[str, tuple[history.Entry, ...]]
    taken: float
    failed: str = ""


class Looks:
    """Plans, kept for a while. One look at a time: a second reader waits for it instead of making another."""

    def __init__(
        self,
        connect: Callable[[], Readers],
        now: Callable[[], datetime],
        patience: float,
        clock: Callable[[], float],
    ) -> None:
        self._connect, self._now, self._patience, self._clock = connect, now, patience, clock
        self._lock = threading.Lock()
        self._kept: dict[Scope, Look] = {}
        self._readers: Readers | None = None
        self.evidence: dict[tuple[str, Mark], Evidence] = {}
        """What was read of marked evidence; a mark has its content's digest, so that it stays true."""

    def at(self, scope: Scope) -> Look:
        """Raises what looking raised, where it never succeeded."""
        with self._lock:
            kept = self._kept.get(scope)
            if kept and self._clock() - kept.taken < self._patience:
                return kept
            try:
                fresh = self._look(scope)
            except TrueupError as error:
                self._readers = None  # the Platform may say something else by now
                if kept is None:
                    raise
                fresh = kept._replace(taken=self._clock(), failed=str(error))
            else:
                if kept and fresh.planned.desired.platform != kept.planned.desired.platform:
                    self._readers = None
            old = [
                each for each, look in self._kept.items() if self._clock() - look.taken > 100 * self._patience
            ]
            for each in old:
                del self._kept[each]
            self._kept[scope] = fresh
            return fresh

    def logs(self, run: str) -> list[tuple[str, str]]:
        """What the tasks of a run have printed by now."""
        with self._lock:
            return list(self._connected().engine.logs(run))

    def _look(self, scope: Scope) -> Look:
        readers = self._connected()
        planned = plan_once(readers, self._now(), scope)
        matrix = matrix_of(planned, readers.engine) if scope == EVERYTHING else None
        past = _history(planned, scope.model, readers) if scope.model in planned.desired.models else {}
        return Look(planned, matrix, past, self._clock())

    def _connected(self) -> Readers:
        if self._readers is None:
            self._readers = self._connect()
        return self._readers

    def read(self, marks: list[tuple[str, Mark]]) -> dict[str, Gap]:
        """See to it that these are in ``evidence``; the Gaps of those that cannot be read."""
        with self._lock:
            wanted = [each for each in marks if each not in self.evidence]
            found, gaps = read_evidence(self._connected().registries, wanted)
            self.evidence |= {each: found[str(each[1])] for each in wanted if str(each[1]) in found}
            return gaps


def create_site(
    connect: Callable[[], Readers],
    now: Callable[[], datetime],
    *,
    name: str,
    patience: float,
    clock: Callable[[], float] = time.monotonic,
) -> Starlette:
    """The application: ``/``, ``/plan``, ``/models/MODEL``, ``/runs/NAME``.

    ``connect`` is called when the first page is asked for, and again after a look has failed. ``patience`` is
    in seconds.
    """
    looks = Looks(connect, now, patience, clock)

    def page(template: str, look: Look, here: str, **given: Any) -> HTMLResponse:
        text = html.page(
            template,
            plan=look.planned.plan,
            stale=look.failed,
            here=here,
            refresh=max(round(patience), 5),
            **given,
        )
        return HTMLResponse(text, headers=HEADERS)

    def overview(_: Request) -> Response:
        look = looks.at(EVERYTHING)
        swept = look.planned.observed.swept
        matrix = look.matrix
        assert matrix is not None
        pulls = swept.forge.open if isinstance(swept.forge, ForgeSweep) else {}
        return page(
            "overview.html",
            look,
            "/",
            name=name,
            rows=matrix.rows,
            environments=("", *matrix.environments),
            progress={each.run.name: each.progress for each in matrix.running},
            pulls=[pull for _, pull in sorted(pulls.items(), reverse=True)],
            runs=_listed(swept.engine.runs if isinstance(swept.engine, EngineSweep) else {}),
            phases=PHASES,
            address=_address,
        )

    def next_tick(_: Request) -> Response:
        return HTMLResponse(html.plan(looks.at(EVERYTHING).planned.plan), headers=HEADERS)

    def model(request: Request) -> Response:
        asked = request.path_params["model"]
        if asked not in looks.at(EVERYTHING).planned.desired.models:
            raise HTTPException(404, f"main has no model {asked!r}")
        look = looks.at(Scope(model=asked, closely=True))
        desired = look.planned.desired
        order = _environments_of(desired, asked)
        explanations = [explanation(look.planned, Subject(environment=name, model=asked)) for name in order]
        measured, unread = _measured(looks, look.planned, asked)
        return page(
            "model.html",
            look,
            "",
            model=asked,
            description=desired.models[asked].model.description,
            explanations=explanations,
            history=look.history,
            results=history.STYLES,
            charts=chart.charts(desired, asked, measured),
            unread=unread,
            drawn=any(judged.verdict.gates for told in explanations for judged in told.judged),
        )

    def run(request: Request) -> Response:
        look = looks.at(EVERYTHING)
        engine = look.planned.observed.swept.engine
        asked = request.path_params["run"]
        found = engine.runs.get(asked) if isinstance(engine, EngineSweep) else None
        if found is None:
            raise HTTPException(404, f"the engine has no run {asked!r}")
        try:
            logs, unread = looks.logs(asked), ""
        except TrueupError as error:
            logs, unread = [], str(error)
        return page("run.html", look, "", run=found, logs=logs, unread=unread, phases=PHASES)

    def missing(_: Request, error: Exception) -> Response:
        code = error.status_code if isinstance(error, HTTPException) else 404
        detail = error.detail if isinstance(error, HTTPException) else str(error)
        return _problem(code, detail)

    def failed(_: Request, error: Exception) -> Response:
        assert isinstance(error, TrueupError)
        return _problem(500 if isinstance(error, Terminal) else 503, error.what, error.where, error.hint)

    return Starlette(
        routes=[
            Route("/", overview),
            Route("/plan", next_tick),
            Route("/models/{model}", model),
            Route("/runs/{run}", run),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HERE, www_redirect=False)],
        exception_handlers={HTTPException: missing, TrueupError: failed},
    )


def _problem(code: int, what: str, where: str = "", hint: str = "") -> Response:
    return HTMLResponse(html.page("problem.html", what=what, where=where, hint=hint), code, HEADERS)


def _address(environment: str, model: str) -> str:
    return f"/models/{quote(model, safe='')}{f'#{quote(environment)}' if environment else ''}"


def _listed(runs: Mapping[str, WorkflowRun]) -> list[WorkflowRun]:
    """Running first, then the newest of those that ended."""
    began = sorted(
        runs.values(), key=lambda run: (run.started is not None, run.started, run.name), reverse=True
    )
    return [run for run in began if not run.done] + [run for run in began if run.done][:ENDED]


def _environments_of(desired: DesiredState, model: str) -> list[str]:
    here = {s.environment for s in desired.subjects if s.model == model}
    return [name for name in status.environments_in_order(desired) if name in here]


def _history(planned: Planned, model: str, readers: Readers) -> dict[str, tuple[history.Entry, ...]]:
    """What each of its environments has had of a model, newest first."""
    swept = planned.observed.swept.registries
    known = {name: sweep for name, sweep in swept.items() if isinstance(sweep, RegistrySweep)}
    past = {
        name: tuple(changes(readers.source, Subject(environment=name, model=model), lambda _: None))
        for name in _environments_of(planned.desired, model)
    }
    merged = readers.forge.merged() if any(past.values()) else {}
    return {name: history.entries(found, merged, known, name) for name, found in past.items()}


def _measured(looks: Looks, planned: Planned, model: str) -> tuple[dict[str, list[Evidence]], tuple[Gap, ...]]:
    """The evidence of each of the newest versions, oldest version first; and what could not be read of it."""
    desired, observed, _ = planned
    source = desired.models[model].model
    registries = {desired.environments[e].registry for e in source.environments if e in desired.environments}
    marks: dict[str, list[tuple[str, Mark]]] = {}
    for registry in sorted(registries):
        registered = View(desired, observed).registered(registry, source.registered_name)
        if isinstance(registered, Gap):
            return {}, (registered,)
        for version in [each for each in registered.versions if each.archived is None][-CHARTED:]:
            marks.setdefault(version.version, []).extend((registry, mark) for mark in _marks(version))
    gaps = looks.read([each for of_one in marks.values() for each in of_one])
    found = {
        version: [looks.evidence[each] for each in of_one if each in looks.evidence]
        for version, of_one in marks.items()
    }
    return found, tuple(gaps.values())


def _marks(version: ModelVersion) -> list[Mark]:
    kinds = tuple(f"trueup.evidence.{kind}." for kind in CATALOGUE)
    parsed = (Mark.parse(value) for tag, value in version.tags.items() if tag.startswith(kinds))
    return [mark for mark in parsed if mark]
