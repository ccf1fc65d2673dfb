"""Orders of a person that change an Exceptions file: hold, unhold, waive, and taking a waiver back.

An order is a pull request of whoever gave it, and counts from the merge. There is one open order of a kind for
one thing, on the branch that :attr:`Order.branch` names; docs/orders.md tells what becomes of orders that
contradict each other. Called by the commands of these names; what main has is judged in :mod:`.exceptions`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

from reconciler.core.base import Instant, Subject, format_instant, parse_duration, show_instant
from reconciler.core.desired import DesiredState
from reconciler.core.documents import Exceptions, HoldOrder, Waiver
from reconciler.core.entries import Entry, with_entries
from reconciler.core.errors import Terminal
from reconciler.core.observed import Mark, PullRequest, branch_of
from reconciler.core.plan import FileChange, GateVerdict, Hold
from reconciler.core.references import exceptions_path
from reconciler.core.validation import nearest
from reconciler.planning.candidates import Candidate, candidate
from reconciler.planning.exceptions import ends
from reconciler.planning.judge import case_of, judge
from reconciler.planning.measuring import marks_wanted
from reconciler.planning.view import View

_INSTANT: TypeAdapter[Instant] = TypeAdapter(Instant)
Verb = Literal["hold", "unhold", "waive", "unwaive"]
_OPPOSITE: Mapping[Verb, Verb] = {"hold": "unhold", "unhold": "hold", "waive": "unwaive", "unwaive": "waive"}


class End(NamedTuple):
    """When an order ends; ``exact``: as an instant was typed, and not a duration from now."""

    at: Instant
    exact: bool


class Order(NamedTuple):
    """One order. ``gate`` and ``digest`` are of waivers; ``expired``: take out only what has ended."""

    verb: Verb
    subject: Subject
    at: Instant
    reason: str = ""
    end: End | None = None
    gate: str = ""
    digest: str = ""
    expired: bool = False

    @property
    def branch(self) -> str:
        """Where its pull request is, and so by what an open one is found again."""
        return "/".join(filter(None, [self.verb, str(self.subject), self.gate]))

    @property
    def title(self) -> str:
        until = f" until {show_instant(self.end.at)}" if self.end else ""
        ended = ", what has ended" if self.expired else ""
        return {
            "hold": f"Hold {self.subject}{until}",
            "unhold": f"Lift the holds of {self.subject}{ended}",
            "waive": f"Waive {self.gate} for {self.subject} ({self.digest[:19]}){until}",
            "unwaive": f"Take the waivers of {self.gate} for {self.subject} back{ended}",
        }[self.verb]


def until(text: str, at: Instant) -> End:
    """``2026-03-01T12:00:00Z``, or a duration from ``at`` as in ``7d``. Terminal if it is neither, or past."""
    try:
        duration = parse_duration(text)
    except ValueError:
        try:
            end = End(_INSTANT.validate_python(text), exact=True)
        except ValidationError as error:
            hint = "write a duration, as in 12h or 7d, or an instant, as in 2026-03-01T12:00:00Z"
            said = (
                "has no time zone" if "no time zone" in str(error) else "is neither an instant nor a duration"
            )
            raise Terminal(f"{text!r} {said}", hint=hint) from None
    else:
        try:
            end = End(_INSTANT.validate_python(show_instant(at + duration)) if duration else at, exact=False)
        except OverflowError:
            raise Terminal(f"{text!r} ends after the year 9999", hint="name a nearer end") from None
    if end.at <= at:
        raise Terminal(f"{text!r} is past", hint="name an instant that is yet to come")
    return end


# --- giving an order --------------------------------------------------------------------------------------


def asked(desired: DesiredState, content: str, order: Order) -> FileChange | None:
    """The Exceptions file as the order wants it; None where main says so already.

    ``content`` is the file on main, empty where there is none. Terminal where the subject is not known, or the
    file cannot be read.
    """
    subject = order.subject
    path = exceptions_path(subject.environment, subject.model)
    _known(desired, subject)
    problem = next((p for p in desired.problems if p.path == path and p.severity == "error"), None)
    if problem is not None:
        raise Terminal(problem.what, where=f"{path}:{problem.line}", hint=problem.hint or "mend it by hand")
    now = desired.exceptions.get(str(subject)) or Exceptions(kind="Exceptions")
    if says(now, order, exactly=True):
        return None
    field = "waivers" if order.gate else "holds"
    entries: tuple[HoldOrder | Waiver, ...] = now.waivers if order.gate else now.holds
    others = now.holds if order.gate else now.waivers
    mine = [place for place, entry in enumerate(entries) if _same(entry, order)]
    wanted: list[int | tuple[int, Entry] | Entry] = [n for n in range(len(entries)) if n not in mine]
    if order.verb in ("hold", "waive"):
        wanted.insert(mine[0], (mine[0], _entry(order))) if mine else wanted.append(_entry(order))
    text = with_entries(content or "apiVersion: trueup.dev/v1\nkind: Exceptions\n", field, wanted, path)
    commented = any(line.lstrip().startswith("#") for line in text.splitlines())
    return FileChange(path=path, content=text if wanted or others or commented else None)


def says(exceptions: Exceptions, order: Order, *, exactly: bool = False) -> bool:
    """Whether a document has what is ordered.

    An end that was typed as a duration is another each time; an open pull request of the same order is found
    by the rest, if it ends about then: nearer than a tenth of the duration. ``exactly``: at that very instant.
    """
    entries = exceptions.waivers if order.gate else exceptions.holds
    if order.verb in ("unhold", "unwaive"):
        return not any(_same(entry, order) for entry in entries)
    return any(
        _same(entry, order) and entry.reason == order.reason and _ends_then(_end(entry), order, exactly)
        for entry in entries
    )


def _ends_then(end: Instant | None, order: Order, exactly: bool) -> bool:
    if order.end is None or end is None or order.end.exact or exactly:
        return end == (order.end.at if order.end else None)
    return abs(end - order.end.at) <= (order.end.at - order.at) / 10


def told(order: Order, desired: DesiredState, pulls: Mapping[int, PullRequest]) -> Iterator[str]:
    """What else is open or holds about the same thing, a sentence each."""
    opposite = order._replace(verb=_OPPOSITE[order.verb]).branch
    for number, pull in sorted(pulls.items()):
        if pull.branch == opposite:
            yield (
                f"#{number} of {pull.author} asks for the opposite ({pull.title}): what is merged first "
                "counts, and the other is then judged anew"
            )
        if order.verb == "hold" and pull.branch == branch_of("promote", order.subject):
            yield f"#{number} ({pull.title}) stays open, and is not merged while the hold counts"
    if order.verb == "unhold" and not order.expired:
        now = desired.exceptions.get(str(order.subject))
        for one in now.holds if now else ():
            yield f"lifts the hold{ends(one.until)}: {one.reason}"


def marks_of(view: View, subject: Subject) -> Iterator[tuple[str, Mark]]:
    """(registry, mark) of the evidence that the gates of the candidate rest on; none where there is none."""
    if view.desired.hidden(subject) or str(subject) not in map(str, view.desired.subjects):
        return
    wanted = candidate(view, subject)
    if not isinstance(wanted, Hold) and wanted.change is not None:
        yield from ((wanted.pin.registry, mark) for mark in marks_wanted(view, subject, wanted).values())


def gate_now(view: View, subject: Subject, gate: str) -> tuple[Candidate, GateVerdict]:
    """The candidate that a waiver of ``gate`` would be for, and what the gate says of it now.

    Terminal where the policy has no such gate, where it passes or is not asked, and where there is no
    candidate.
    """
    where = str(subject)
    _known(view.desired, subject)
    problem = view.desired.hidden(subject)
    if problem is not None:
        raise Terminal(problem.what, where=problem.path, hint=problem.hint or "mend the document first")
    policy = view.policy(subject)
    names = [one.name for one in policy.gates]
    if gate not in names:
        what = f"the policy {policy.name} of {subject.environment} has no gate {gate}"
        raise Terminal(what, where=where, hint=nearest(gate, names))
    wanted = candidate(view, subject)
    if isinstance(wanted, Hold):
        raise Terminal(wanted.reason, where=where, hint="a waiver is for a candidate")
    if wanted.change is None:
        raise Terminal(
            f"version {wanted.pin.version} is pinned already", where=where, hint="nothing is to be waived"
        )
    case = case_of(view.desired, subject, wanted.pin, wanted.image, view.champion(subject))
    marks = marks_wanted(view, subject, wanted)
    read = {kind: view.observed.evidence.get(str(mark)) for kind, mark in marks.items()}
    evidence = {kind: document for kind, document in read.items() if document is not None}
    verdict = next((v for v in judge(policy, evidence, case, view.at) if v.gate == gate), None)
    if verdict is None:
        what = f"gate {gate} is not asked of version {wanted.pin.version}"
        raise Terminal(what, where=where, hint="nothing is to be waived")
    if verdict.verdict == "pass":
        what = f"gate {gate} passes for version {wanted.pin.version}: {verdict.why}"
        raise Terminal(what, where=where, hint="nothing is to be waived")
    return wanted, verdict


def _known(desired: DesiredState, subject: Subject) -> None:
    if subject.environment not in desired.environments:
        hint = nearest(subject.environment, desired.environments, if_none="see `reconcile validate`")
        raise Terminal(f"main has no environment {subject.environment}", where=str(subject), hint=hint)
    if subject.model not in desired.models:
        hint = nearest(subject.model, desired.models, if_none="see `reconcile validate`")
        raise Terminal(f"main has no model {subject.model}", where=str(subject), hint=hint)


def _same(entry: HoldOrder | Waiver, order: Order) -> bool:
    """Whether an entry is the one that an order changes or takes out."""
    end = _end(entry)
    if order.expired and (end is None or order.at < end):
        return False
    if isinstance(entry, Waiver):
        return entry.gate == order.gate and order.digest in ("", entry.digest)
    return order.verb == "unhold" or entry.reason == order.reason


def _end(entry: HoldOrder | Waiver) -> Instant | None:
    return entry.expires if isinstance(entry, Waiver) else entry.until


def _entry(order: Order) -> Entry:
    """As the file has it. Terminal where a document could not."""
    end = format_instant(order.end.at) if order.end else ""
    if order.verb == "hold":
        return {"reason": order.reason, **({"until": end} if end else {})}
    entry = {"gate": order.gate, "digest": order.digest, "reason": order.reason, "expires": end}
    try:
        Waiver.model_validate(entry)
    except ValidationError as error:
        field = error.errors()[0]["loc"][0]
        hint = "a digest is sha256: or md5: and lower-case hex digits" if field == "digest" else ""
        raise Terminal(f"{field} {entry[str(field)]!r} is not acceptable", hint=hint) from None
    return entry
