"""What `hold`, `unhold` and `waive` have in common: an order becomes a pull request, opened as who gave it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from reconciler.cli import console
from reconciler.cli.session import Session

if TYPE_CHECKING:
    from reconciler.core.observed import PullRequest
    from reconciler.planning.exception_orders import Order


def carry_out(session: Session, order: Order, about: tuple[str, ...] = ()) -> None:
    """Open the pull request of an order, or find it open, or say that main has it; ``about`` goes into it.

    The commit is made of main as it is on the forge. The working tree is not looked at.
    """
    from reconciler.bootstrap.forges import connect_as_person
    from reconciler.core.references import exceptions_path
    from reconciler.planning.exception_orders import asked, told

    with console.working("asking the forge"):
        forge = connect_as_person(session.repository, session.forge)
        pulls = forge.sweep().open
        main = session.main
        path = exceptions_path(order.subject.environment, order.subject.model)
        blob = session.source.files(main.revision).get(path)
        content = session.source.read([blob.oid])[blob.oid].decode() if blob else ""
        file = asked(main, content, order)
    for sentence in told(order, main, pulls):
        console.note(sentence)
    there = next((pull for _, pull in sorted(pulls.items()) if pull.branch == order.branch), None)
    if there is not None:
        _found(session, order, there)
        return
    if file is None:
        console.note(_said_already(order, path))
        return
    with console.working("opening the pull request"):
        number = forge.propose_as_person(
            branch=order.branch,
            base=main.revision,
            title=order.title,
            body="\n\n".join(_body(session, order, about)),
            files=(file,),
        )
    console.write(f"#{number}\n")
    console.note(f"{order.title}: it counts when it is merged. `reconcile pr show {number}` shows it")


def _said_already(order: Order, path: str) -> str:
    return {
        "hold": f"main says so already: {path}",
        "waive": f"main says so already: {path}",
        "unhold": f"there is no {'hold that has ended' if order.expired else 'hold'} on {order.subject}",
        "unwaive": f"there is no {'ended ' if order.expired else ''}waiver of {order.gate} for {order.subject}",
    }[order.verb]


def _found(session: Session, order: Order, there: PullRequest) -> None:
    """An open pull request of the same order is the answer; one that asks for something else is in the way."""
    from reconciler.core.documents import Exceptions
    from reconciler.core.errors import Terminal
    from reconciler.load import load
    from reconciler.planning.exception_orders import says

    session.source.head()  # fetches: the pull request may be younger than what is known
    key = str(order.subject)
    takes_out = order.verb in ("unhold", "unwaive")  # all of it, or what has ended: the title tells
    there_says = load(session.source, there.head).exceptions.get(key) or Exceptions(kind="Exceptions")
    if says(there_says, order) and (not takes_out or there.title == order.title):
        console.write(f"#{there.number}\n")
        console.note(f"is open already: {there.title}")
        return
    raise Terminal(
        f"#{there.number} of {there.author} asks for something else: {there.title}",
        where=key,
        hint=f"one order of a kind at a time: reconcile pr close {there.number}, or have it merged first",
    )


def _body(session: Session, order: Order, about: tuple[str, ...]) -> Iterator[str]:
    from reconciler.report.inert import code, inert

    command = {"unwaive": "waive --remove"}.get(order.verb, order.verb)
    yield f"Ordered by {inert(session.repository.name or 'a person')}, with {code(f'reconcile {command}')}."
    if order.reason:
        yield f"Reason: {inert(order.reason)}"
    yield from (inert(sentence) for sentence in about)
    yield {
        "hold": "While it counts, nothing is promoted there; rollbacks are.",
        "unhold": "When it is merged, promotions go on.",
        "waive": "While it counts, this gate is not asked of this candidate, and of no other.",
        "unwaive": "When it is merged, the gate is asked of every candidate again.",
    }[order.verb]
