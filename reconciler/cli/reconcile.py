"""`reconcile`: one tick, or one every so often. The root command."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import console
from reconciler.cli.options import PlanFormat, PlanOutput
from reconciler.cli.session import Session
from reconciler.cli.version import version_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.core.desired import DesiredState
    from reconciler.core.plan import Outcome, Plan
    from reconciler.loop import Planned
    from reconciler.planning.in_motion import Scope

WATCH_INTERVAL = 30
"""Seconds between ticks where ``--watch`` does not say."""


def reconcile(
    context: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and why. Write nothing.")
    ] = False,
    env: Annotated[str | None, typer.Option(metavar="ENV", help="This environment only.")] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="This model only.")] = None,
    watch: Annotated[
        int | None,
        typer.Option(
            metavar="[SECONDS]",
            min=1,
            help=f"Tick every {WATCH_INTERVAL} seconds unless said otherwise, and at once after a change.",
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            help="With --watch: tick at once when engine or forge call /wake. HOST: this machine alone.",
        ),
    ] = None,
    expect: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="Do nothing unless the plan is still the one with this digest."),
    ] = None,
    output: PlanOutput = PlanFormat.text,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="0: nothing to do. 2: changes. 1: an error.")
    ] = False,
    directory: Annotated[
        Path, typer.Option("-C", metavar="DIRECTORY", show_default=False, help="As if started there.")
    ] = Path(),
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=version_option, help="Print the version of trueup and exit."
        ),
    ] = False,
) -> None:
    """Keep models, registry and clusters true to what Git says.

    Without a command: one tick. It compares main with the registry, the workflows, the pull requests and the
    cluster, does the smallest thing that brings them nearer, and stops.
    """
    context.obj = directory
    if context.invoked_subcommand is not None:
        _refuse_with(context, dry_run or detailed_exitcode or {env, model, watch, listen, expect} != {None})
        return
    _check_options(dry_run, {"--env": env, "--model": model, "--listen": listen, "--expect": expect})
    _check_stream(watch, output)
    from reconciler.planning.in_motion import Scope

    ticks = Ticks(directory, Scope(environment=env or "", model=model or ""), dry_run, expect, output)
    if watch is None:
        _refuse_alone(listen)
        raise typer.Exit(exit_code(*ticks.tick(), detailed_exitcode))
    if listen is None:
        ticks.forever(watch, time.sleep)
        return
    from reconciler.cli.waking import Alarm, address, listening, receiver

    alarm = Alarm()
    with listening(receiver(ticks.wake_token(), alarm.call), *address(listen)) as url:
        console.note(f"listening on {url}")
        ticks.forever(watch, alarm.sleep)


def exit_code(plan: Plan, outcomes: tuple[Outcome, ...] | None, detailed: bool = False) -> int:
    """1 where something failed, a tripwire stopped a class, or (detailed) something could not be read."""
    if plan.tripped or any(outcome.result == "failed" for outcome in outcomes or ()):
        return 1
    if not detailed:
        return 0
    return 1 if plan.gaps or plan.problems else 2 if plan.actions else 0


class Ticks:
    """Ticks of one invocation. Connected once, and again when the Platform document changes."""

    def __init__(
        self, directory: Path, scope: Scope, dry_run: bool, expect: str | None, output: PlanFormat
    ) -> None:
        self._directory, self._scope, self._dry_run, self._expect = directory, scope, dry_run, expect
        self._output = output
        self._session: Session | None = None
        self._said: object = None

    def tick(self, *, only_news: bool = False) -> tuple[Plan, tuple[Outcome, ...] | None]:
        """Plan and, unless dry, apply; then report. ``only_news``: nothing where it would repeat the last."""
        from reconciler.bootstrap.process import now
        from reconciler.loop import plan_once, run_once

        with console.working("comparing Git with the registry, the workflows, the forge and the cluster"):
            session = self._session = self._session or Session(self._directory)
            outcomes: tuple[Outcome, ...] | None = None
            if self._dry_run:
                planned = plan_once(session.readers, now(), self._scope)
            else:
                planned, outcomes = run_once(session.readers, session.writers, now, self._scope, self._expect)
        _check_scope(planned.desired, self._scope)
        if planned.desired.platform != session.platform:
            self._session = None
        plan = planned.plan
        news = (plan.actions, plan.gaps, plan.tripped, [(h.subject, h.code, h.reason) for h in plan.holds])
        if not only_news or plan.actions or news != self._said:
            self._report(planned, outcomes, only_news)
        self._said = news
        return plan, outcomes

    def wake_token(self) -> Callable[[], str]:
        """What callers of the receiver have to know. Terminal where the Platform or its secret is silent."""
        from reconciler.bootstrap.process import PLATFORM, require, secret
        from reconciler.core.errors import Terminal

        wake = Session(self._directory).platform.engine.wake
        if wake is None:
            hint = f"add engine.wake to {PLATFORM}"
            raise Terminal("main's Platform does not say whose calls to take", where="--listen", hint=hint)
        place = wake.token
        require(place)
        return lambda: secret(place)

    def forever(self, seconds: int, sleep: Callable[[float], None]) -> None:
        """Until interrupted. A tick that fails is reported, and the next one goes on.

        A tick that changed something is followed at once: what it changed may be what the next step waits for.
        """
        from reconciler.core.errors import TrueupError

        while True:
            try:
                _, outcomes = self.tick(only_news=True)
                if outcomes and all(outcome.result in ("done", "already") for outcome in outcomes):
                    continue
            except TrueupError as error:
                console.fail(error)
                self._session = None
            with console.working(f"waiting {seconds} s for the next tick; Ctrl-C ends", patience=0.5):
                sleep(seconds)

    def _report(self, planned: Planned, outcomes: tuple[Outcome, ...] | None, one_of_many: bool) -> None:
        from reconciler.report import json, layout, markdown, text

        plan, forge = planned.plan, planned.observed.swept.forge
        remaining = None if forge.gap else forge.remaining
        match self._output:
            case PlanFormat.json:
                write = json.plan_line if one_of_many else json.plan
                console.write(write(plan, outcomes, remaining))
            case PlanFormat.html:
                from reconciler.report import html

                console.write(html.plan(plan, outcomes, remaining))
            case PlanFormat.markdown:
                console.write(markdown.plan(plan, outcomes, remaining))
            case PlanFormat.text:
                head = [layout.BLANK, text.moment(plan)] if one_of_many else []
                console.show([*head, *text.plan(plan, outcomes, remaining)])


def _refuse_alone(listen: str | None) -> None:
    from reconciler.core.errors import Terminal

    if listen is not None:
        raise Terminal("one tick is not woken", where="--listen", hint="give it with --watch")


def _check_options(dry_run: bool, given: dict[str, str | None]) -> None:
    from reconciler.core.errors import Terminal

    # As from a variable of the shell that is not set: everything, or unguarded, is not what was meant.
    empty = next((name for name, value in given.items() if value == ""), None)
    if empty:
        raise Terminal(f"{empty} is empty", hint="give it a value, or leave it out")
    if dry_run and given["--expect"]:
        raise Terminal("--expect guards what is done, and --dry-run does nothing", hint="leave one of them out")


def _check_stream(watch: int | None, output: PlanFormat) -> None:
    from reconciler.core.errors import Terminal

    if watch is not None and output is PlanFormat.html:
        raise Terminal("--output html is one page, and --watch goes on", hint="leave one of them out")


def _check_scope(desired: DesiredState, scope: Scope) -> None:
    """A name that main does not have is a slip of the finger. Nothing was in its scope, so nothing was done."""
    from reconciler.core.errors import Terminal

    environments = {*desired.environments, *(subject.environment for subject in desired.subjects)}
    for option, asked, known in (
        ("--env", scope.environment, environments),
        ("--model", scope.model, {subject.model for subject in desired.subjects}),
    ):
        if asked and asked not in known:
            names = ", ".join(sorted(known - {""})) or "none"
            raise Terminal(
                f"main has no {asked!r}", where=option, hint=f"it has {names}; see reconcile validate"
            )


def _refuse_with(context: typer.Context, given: object) -> None:
    from reconciler.core.errors import Terminal

    if given:
        raise Terminal(
            f"options of a tick mean nothing to {context.invoked_subcommand!r}",
            where="reconcile",
            hint=f"reconcile {context.invoked_subcommand} --help",
        )
