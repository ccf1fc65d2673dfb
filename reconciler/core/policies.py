"""How a GatePolicy extends another: gates merge by name, and a child may only tighten. Called by load.

A gate of the child replaces the parent's of the same name as a whole, and must then ask at least as much in
every respect. Which value of a field asks more is one table a reader can check: :func:`loosenings`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final, NamedTuple, get_args

from reconciler.core.base import format_duration
from reconciler.core.documents import Gate, Versus, When

ORDER: Final = {"absolute": 0, "baseline": 1, "review": 2, "block": 3}
"""onFail, onMissing and onNoChampion from the mildest to the strictest: a threshold is asked in any case."""


class Loosening(NamedTuple):
    """A field (as the file spells it, from the gate on) in which a child gate asks less than its parent."""

    field: tuple[str, ...]
    what: str
    hint: str


def merge_gates(parent: tuple[Gate, ...], child: tuple[Gate, ...]) -> tuple[Gate, ...]:
    """The parent's gates in order, each replaced by the child's of that name; then the child's other ones."""
    replaced = {gate.name: gate for gate in child}
    inherited = [replaced.pop(gate.name, gate) for gate in parent]
    return (*inherited, *(gate for gate in child if gate.name in replaced))


def loosenings(parent: Gate, child: Gate) -> Iterator[Loosening]:
    """Every respect in which ``child`` asks less than ``parent``, or something that cannot be compared."""
    if child.metric != parent.metric:
        yield Loosening(("metric",), f"asks {child.metric} instead of {parent.metric}", "give it another name")
        return
    yield from _threshold(parent, child)
    yield from _versus(parent.versus, child.versus)
    if child.min_samples < parent.min_samples:
        yield _less("minSamples", child.min_samples, parent.min_samples, f"at least {parent.min_samples}")
    if parent.max_age is not None and (child.max_age is None or child.max_age > parent.max_age):
        most = format_duration(parent.max_age)
        own = "no limit" if child.max_age is None else format_duration(child.max_age)
        yield _less("maxAge", own, most, f"at most {most}")
    yield from _slices(parent, child)
    for field, own, other in (
        ("onFail", child.on_fail, parent.on_fail),
        ("onMissing", child.on_missing, parent.on_missing),
    ):
        if ORDER[own] < ORDER[other]:
            yield _less(field, own, other, other)
    both_versus = parent.versus is not None and child.versus is not None
    if both_versus and ORDER[child.on_no_champion] < ORDER[parent.on_no_champion]:
        yield _less("onNoChampion", child.on_no_champion, parent.on_no_champion, parent.on_no_champion)
    yield from _when(parent.when, child.when)


def _less(field: str, own: object, other: object, ask: str) -> Loosening:
    return Loosening((field,), f"has {field} {own} where its parent has {other}", f"write {ask}")


def _threshold(parent: Gate, child: Gate) -> Iterator[Loosening]:
    if parent.op is None or parent.threshold is None:
        return
    asked = f"{parent.op} {parent.threshold}"
    if child.op is None or child.threshold is None:
        yield Loosening(("threshold",), f"drops the threshold {asked} of its parent", "repeat it or tighten it")
    elif child.op[0] != parent.op[0]:
        yield Loosening(("op",), f"asks {child.op} where its parent asks {parent.op}", "give it another name")
    else:
        higher_is_better = parent.op[0] == ">"
        falls = child.threshold < parent.threshold if higher_is_better else child.threshold > parent.threshold
        admits_equal = child.threshold == parent.threshold and len(child.op) > len(parent.op)
        if falls or admits_equal:
            own = f"{child.op} {child.threshold}"
            yield Loosening(
                ("threshold",), f"asks {own} where its parent asks {asked}", f"ask at least {asked}"
            )


def _versus(parent: Versus | None, child: Versus | None) -> Iterator[Loosening]:
    if parent is None:
        return
    if child is None:
        what = f"drops the comparison with the {parent.ref} of its parent"
        yield Loosening(("versus",), what, "repeat it or tighten it")
    elif child.ref != parent.ref:
        what = f"compares with the {child.ref} where its parent compares with the {parent.ref}"
        yield Loosening(("versus", "ref"), what, "give it another name")
    else:
        for field, own, other in (
            ("maxDrop", child.max_drop, parent.max_drop),
            ("maxRise", child.max_rise, parent.max_rise),
        ):
            if other is not None and (own is None or own > other):
                shown = "none" if own is None else f"{own}"
                yield Loosening(
                    ("versus", field),
                    f"has {field} {shown} where its parent has {other}",
                    f"write at most {other}",
                )


def _slices(parent: Gate, child: Gate) -> Iterator[Loosening]:
    dropped = [name for name in parent.slices if name not in child.slices]
    if dropped:
        yield Loosening(("slices",), f"drops the slices {', '.join(dropped)} of its parent", "name them too")
    elif child.slices and not parent.slices:
        # The worst slice is then judged in place of the whole, and not every metric's whole is above it.
        what = "judges slices where its parent judges the whole"
        yield Loosening(("slices",), what, "give it another name, beside the parent's")


_Values = Callable[[When], Collection[str]]
_WHEN: Final[dict[str, _Values]] = {"tasks": lambda when: when.tasks, "changes": lambda when: when.changes}
"""Fields of a closed list, so that naming nothing is naming all."""


def _when(parent: When, child: When) -> Iterator[Loosening]:
    if child.models and (not parent.models or set(parent.models) - set(child.models)):
        others = sorted(set(parent.models) - set(child.models))
        names = f"models {', '.join(others)}" if others else f"models other than {', '.join(child.models)}"
        yield Loosening(
            ("when", "models"), f"leaves out {names}, to which its parent applies", "apply it there too"
        )
    for field, values in _WHEN.items():
        everything = set(get_args(get_args(When.model_fields[field].annotation)[0]))
        left_out = (set(values(parent)) or everything) - (set(values(child)) or everything)
        if left_out:
            names = ", ".join(sorted(left_out))
            what = f"leaves out {field} {names}, to which its parent applies"
            yield Loosening(("when", field), what, "apply it there too")
    if undeclared := sorted(set(child.declares) - set(parent.declares)):
        what = f"leaves out models without {', '.join(undeclared)}, to which its parent applies"
        yield Loosening(("when", "declares"), what, "apply it there too")
    if child.champion and not parent.champion:
        what = "leaves out a first release, to which its parent applies"
        yield Loosening(("when", "champion"), what, "apply it there too")
