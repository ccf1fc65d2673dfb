"""What the commands that order runs share: who asks, why, and the lease under which it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeVar

from reconciler.cli import console
from reconciler.cli.session import Session

if TYPE_CHECKING:
    from reconciler.core.desired import DesiredState
    from reconciler.core.observed import Observed
    from reconciler.core.plan import SubmitWorkflow
    from reconciler.ports import Lease

PATIENCE = 30.0
"""Seconds that a person's order waits for a tick to end."""
LONGEST = 300
"""Characters of a reason: it is kept with the run, and shown wherever that is."""

_Ordered = TypeVar("_Ordered")


def carry_out(
    session: Session,
    order: Callable[[DesiredState, Observed], _Ordered],
    write: Callable[[_Ordered, str], _Ordered],
) -> _Ordered:
    """Look, decide and write, all under the lease: of two who order the same, one sees what the other did.

    ``write`` gets the action and who asked. Terminal where nobody is there to have asked.
    """
    from reconciler.bootstrap.process import now
    from reconciler.core.errors import Terminal
    from reconciler.loop import plan_once

    person = session.repository.name
    if not person:
        raise Terminal("it is recorded who asks, and Git does not know you", hint="git config user.name NAME")
    with (
        console.working("asking the registry, the workflows, the forge and the cluster"),
        in_turn(session.writers.lease),
    ):
        desired, observed, _ = plan_once(session.readers, now())
        return write(order(desired, observed), person)


def stated(reason: str) -> str:
    """A reason in one line. Terminal where nothing is said, or too much."""
    from reconciler.core.errors import Terminal

    said = " ".join(reason.split())
    if not said:
        raise Terminal("--reason is empty", hint="say why, for those who read it later")
    if len(said) > LONGEST:
        raise Terminal(f"--reason has {len(said)} characters", hint=f"say it in {LONGEST}")
    return said


def submitted(session: Session) -> Callable[[SubmitWorkflow, str], SubmitWorkflow]:
    """The write of `retrain`, `reproduce` and `retry`."""
    from reconciler.apply import submit

    def write(action: SubmitWorkflow, person: str) -> SubmitWorkflow:
        new = submit(action, session.writers.engine, person)
        console.note(action.reason if new else f"{action.name} was there already")
        return action

    return write


@contextmanager
def in_turn(lease: Lease) -> Iterator[None]:
    """The lease, as soon as the tick that has it is over. Retryable where that takes too long."""
    from reconciler.core.errors import Retryable

    give_up = time.monotonic() + PATIENCE
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(lease.hold())
                break
            except Retryable:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.5)
        yield
