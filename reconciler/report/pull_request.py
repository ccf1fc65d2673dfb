"""The body of a pull request of ours, as Markdown that every forge shows. Called by apply.

It tells one person in one minute what would change and why it may; the planner's marker is its last line,
where :meth:`reconciler.core.observed.Marker.find` looks for it. Whatever comes from a model is inert.
"""

from __future__ import annotations

from reconciler.core.documents import evidence_path, rendered_folder
from reconciler.core.observed import Marker
from reconciler.core.plan import Summary
from reconciler.report import markdown
from reconciler.report.inert import code, inert

LIMIT = 60_000
"""Characters. GitHub refuses bodies above 65,536; the rest is room for other forges."""

_DIFFERENCE = 30_000
FOLD = "<details><summary>What changes in the cluster</summary>"
"""Begins the part that `reconcile pr show` leaves out, because it shows the files' difference itself."""

_INTENTS = {
    "promote": "Promotion",
    "rollback": "Rollback",
    "remove": "Removal",
    "adopt": "Adoption",
}
_GROUNDS = {
    "promotion": "It is let in by the gates below.",
    "rollback": "It claims no gates: its target was verified in this environment before.",
    "adoption": "It claims no gates: it pins what already runs.",
    "removal": "It claims no gates: nothing new is let in.",
    "documents": "It pins nothing.",
}


def body(summary: Summary, marker: Marker) -> str:
    """The whole body, at most :data:`LIMIT` characters, ending in the marker."""
    parts = [
        inert(summary.headline),
        _change(summary),
        *_gates(summary),
        *_list("What speaks against it", [inert(text) for text in _objections(summary)]),
        *_list("Notes", [inert(note) for note in summary.notes]),
        *_list("Lineage", [f"{inert(what, 60)}: {code(value)}" for what, value in summary.lineage.items()]),
        *_section("What merges it", inert(summary.merges)),
        *_section("To hold it, or to let it pass", _holding(summary)),
        *_section("Evidence", _evidence(summary)),
    ]
    text = "\n\n".join(part for part in parts if part)
    folded = _folded(summary.difference)
    ending = f"\n\n{folded}\n\n{marker}" if folded else f"\n\n{marker}"
    return cut(text, LIMIT - len(ending)) + ending


def cut(text: str, room: int) -> str:
    """``text``, or as many of its lines as a forge takes, and that it was longer."""
    if len(text) <= room:
        return text
    said = "\n\n(cut: it was longer than a forge takes)"
    return text[: room - len(said)].rpartition("\n")[0] + said


def _change(summary: Summary) -> str:
    before = f"version {inert(summary.from_version)}" if summary.from_version else "nothing"
    after = f"version {inert(summary.to_version)}" if summary.to_version else "nothing"
    where = f"{_INTENTS[summary.intent]} of {code(summary.model)} in {code(summary.environment)}"
    return f"**{before} → {after}** · {where}. {_GROUNDS[summary.verdict.grounds]}"


def _gates(summary: Summary) -> list[str]:
    gates = summary.verdict.gates
    if not gates:
        return []
    parts = ["### Gates", markdown.gates(gates)]
    if all(gate.champion is None for gate in gates):
        parts.append("**No champion** was measured beside this candidate: the values stand alone.")
    else:
        parts.append(
            "An interval with signs is of the difference to the champion, in pairs on the same rows; "
            "its unfavourable end decides."
        )
    return parts


def _objections(summary: Summary) -> list[str]:
    against = list(summary.verdict.against())
    against += [f"gate {g.gate} was waived: {g.waived}" for g in summary.verdict.gates if g.waived]
    return against


def _holding(summary: Summary) -> str:
    lines = [
        "- Close this pull request: this candidate is not proposed here again."
        if summary.intent == "promote"
        else "- Close this pull request: it is not opened again until something changes.",
    ]
    if summary.intent == "promote":
        subject = f"{summary.environment}/{summary.model}"
        lines.append(f"- For a time: {code(f'reconcile hold {subject} --reason ...')}.")
    if any(gate.verdict == "review" for gate in summary.verdict.gates):
        lines.append("- Whoever approves it decides about the gates that say review.")
    return "\n".join(lines)


def _evidence(summary: Summary) -> str:
    if summary.intent == "remove":
        return ""
    bundle = evidence_path(summary.environment, summary.model)
    rendered = rendered_folder(summary.environment, summary.model)
    parts = []
    if summary.verdict.grounds == "promotion":
        parts.append(f"The numbers above are committed here, in {code(bundle)}; the verdict replays from them.")
    parts.append(f"What changes in the cluster is the difference in {code(rendered)}.")
    if summary.verdict.inputs:
        inputs = code(summary.verdict.inputs[:19])
        parts.append(
            f"An approval counts for this head; a new one is written, to be approved again, when the inputs "
            f"{inputs} change or main no longer merges with it."
        )
    return " ".join(parts)


def _folded(difference: str) -> str:
    """The cluster's difference, out of the way until it is opened."""
    if not difference:
        return ""
    shown = difference[:_DIFFERENCE].rpartition("\n")[0] if len(difference) > _DIFFERENCE else difference
    cut = "" if shown == difference else "\n(cut: the files of this pull request have the rest)"
    # No YAML that trueup writes has a line of tildes; whatever is between them is only text.
    block = f"~~~~diff\n{shown}{cut}\n~~~~"
    return f"{FOLD}\n\n{block}\n\n</details>"


def _section(title: str, text: str) -> list[str]:
    return [f"### {title}", text] if text else []


def _list(title: str, items: list[str]) -> list[str]:
    shown = items[:50]
    more = [f"- and {len(items) - 50} more"] if len(items) > 50 else []
    return [f"### {title}", "\n".join([*(f"- {item}" for item in shown), *more])] if items else []
