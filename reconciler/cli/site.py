"""The pages of `reconcile web`: one look at everything, filled into templates. Nothing here can write.

A page rests on a plan that is at most ``patience`` seconds old, whoever asks: looking is a sweep of every
system. Where a look fails, the last one is shown, and said to be the last one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
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
    from reconciler.ports import Readers

HERE = ["localhost", "127.0.0.1"]
"""The only names that the pages answer to, so that a page elsewhere cannot have a browser read them under its
own (DNS rebinding)."""
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"}
ENDED = 30
"""Finished runs that the overview lists."""
CHARTED = 30
"""Versions that a chart goes back."""
AGO = datetime.min.replace(tzinfo=UTC)
PHASES = {"Pending": "note", "Running": "note", "Succeeded": "good", "Failed": "bad", "Error": "bad"}


class Look(NamedTuple):
    """What a page rests on. ``failed`` says why there is nothing newer, where that is so."""

    planned: Planned
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
                fresh = Look(plan_once(self.readers, self._now(), scope), self._clock())
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

    @property
    def readers(self) -> Readers:
        if self._readers is None:
            self._readers = self._connect()
        return self._readers

    def history(self, planned: Planned, row: status.Row) -> tuple[history.Entry, ...]:
        """What an environment has had of a model, newest first."""
        swept = planned.observed.swept.registries
        known = {name: sweep for name, sweep in swept.items() if isinstance(sweep, RegistrySweep)}
        subject = Subject(environment=row.environment, model=row.model)
        with self._lock:
            past = tuple(changes(self.readers.source, subject, lambda _: None))
            merged = self.readers.forge.merged() if past else {}
        return history.entries(past, merged, known, row.environment)

    def read(self, marks: list[tuple[str, Mark]]) -> dict[str, Gap]:
        """See to it that these are in ``evidence``; the Gaps of those that cannot be read."""
        with self._lock:
            wanted = [each for each in marks if each not in self.evidence]
            found, gaps = read_evidence(self.readers.registries, wanted)
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
        desired, observed, plan = look.planned
        view, swept = View(desired, observed), observed.swept
        verified = {key: view.verified_at(key.partition("/")[0], pin) for key, pin in desired.releases.items()}
        pulls = swept.forge.open if isinstance(swept.forge, ForgeSweep) else {}
        return page(
            "overview.html",
            look,
            "/",
            name=name,
            rows=status.rows(desired, swept, plan, verified),
            environments=["", *status.environments_in_order(desired)],
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
        here = {s.environment for s in desired.subjects if s.model == asked} & desired.environments.keys()
        order = [name for name in status.environments_in_order(desired) if name in here]
        explanations = [explanation(look.planned, Subject(environment=name, model=asked)) for name in order]
        measured, unread = _measured(looks, look.planned, asked)
        return page(
            "model.html",
            look,
            "",
            model=asked,
            description=desired.models[asked].model.description,
            explanations=explanations,
            history={told.row.environment: looks.history(look.planned, told.row) for told in explanations},
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
            logs, unread = list(looks.readers.engine.logs(asked)), ""
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
        for version in registered.versions[-CHARTED:]:
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
