"""Pages: templates beside this file, one stylesheet, no script, nothing fetched from anywhere.

:func:`plan` is ``--output html``; :func:`page` renders any template that extends base.html, as
`reconcile web` does. Whatever a template prints is data: it loses its control characters
(:func:`reconciler.report.inert.visible`) and is escaped. Only what this package itself wrote is
:class:`markupsafe.Markup`.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from reconciler import __version__
from reconciler.core.base import format_instant
from reconciler.core.plan import GateVerdict, OpenPullRequest, Outcome, Plan
from reconciler.report import actions, gates, pulls, status, text
from reconciler.report.drawing import drawing
from reconciler.report.inert import visible

AXIS = 240
"""Units of the axis in the drawing of a gate."""


def plan(plan: Plan, outcomes: tuple[Outcome, ...] | None = None, remaining: int | None = None) -> str:
    """One file: what :func:`reconciler.report.text.plan` says, and what each pull request would say."""
    verdicts = [hold.verdict for hold in plan.holds if hold.verdict]
    verdicts += [action.summary.verdict for action in plan.actions if isinstance(action, OpenPullRequest)]
    headline, lead = text.headline(plan, outcomes)
    return page(
        "plan.html",
        plan=plan,
        became={outcome.key: outcome for outcome in outcomes or ()},
        remaining=remaining,
        headline=headline,
        lead=lead,
        drawn=any(verdict.gates for verdict in verdicts),
    )


def page(template: str, **given: Any) -> str:
    """A template of this package, filled."""
    return _environment().get_template(template).render(**given)


def macros() -> Any:
    """The macros by name, each of which gives Markup; templates import them themselves."""
    return _environment().get_template("macros.html").module


def spoken(gate: GateVerdict) -> str:
    """A gate's drawing in words."""
    parts = [f"value {gates.number(gate.value)}"]
    between = gates.interval(gate)
    parts += [f"interval {'of the difference ' if gate.paired else ''}{between}"] if between else []
    parts += [
        f"asked {'at least' if b.good == 'above' else 'at most'} {gates.number(b.at)}" for b in gate.bounds
    ]
    parts += [] if gate.champion is None else [f"champion {gates.number(gate.champion)}"]
    return ", ".join(parts)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("reconciler.report.html", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style = made.loader.get_source(made, "style.css")[0] if made.loader else ""
    made.globals.update(
        version=__version__,
        style=Markup(style),  # noqa: S704 - a file of this package
        style_hash=b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        actions=actions,
        gates=gates,
        text=text,
        drawing=drawing,
        spoken=spoken,
        at=_at,
        instant=format_instant,
        minute=status.moment,
        diff=_diff,
        log=_log,
    )
    return made


def _finalized(value: Any) -> Any:
    """Every value on its way into a page, before it is escaped."""
    if value is None:
        return ""
    return value if hasattr(value, "__html__") else visible(str(value))


def _at(share: float) -> str:
    return f"{share * AXIS:.1f}"


def _diff(difference: str) -> list[tuple[Markup, str]]:
    """Each line with its style. Its spaces mean something, so that it is escaped here and not finalized."""
    lines = pulls.difference(difference)
    return [(escape(span.text), span.style) for line in lines for span in line.spans]


def _log(printed: str) -> list[Markup]:
    """The lines of a log, which keep their indentation: a traceback needs it."""
    return [escape(" " * (len(each) - len(each.lstrip(" "))) + visible(each)) for each in printed.splitlines()]
