"""The part of Argo Workflows' language that trueup's templates use: references, conditions and durations.

Pure. Read by :mod:`reconciler.core.lint`, which checks templates, and by the engines, which run them.
Grammar and meaning are Argo's (its pages "Enhanced Depends Logic", "Variables" and "Retries"); what is not here
is refused with a ValueError that names it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

CHECKPOINT = "/trueup/checkpoint"
"""Where a training keeps its checkpoint: templates mount it, pools and engines make it outlive a pod."""

WAKE_TOKEN = "TRUEUP_WAKE_TOKEN"  # noqa: S105 - its name
"""Variable of the one step that calls when a run has ended; it comes from a Secret, or from this machine."""

TERMINATION_LOG = "TRUEUP_TERMINATION_LOG"
"""Variable that names the file for a container's last words, where that is not Kubernetes' own."""

_REFERENCE = re.compile(r"\{\{\s*(.*?)\s*\}\}")


def references(value: Any) -> Iterator[str]:
    """What stands between ``{{`` and ``}}`` in any text below ``value``."""
    if isinstance(value, str):
        yield from _REFERENCE.findall(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from references(item)


def substitute(text: str, values: Mapping[str, str]) -> str:
    """``text`` with every reference replaced, once: what a value brings in is not read again.

    Raises ValueError, in Argo's words, for a reference without a value.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise ValueError(f"failed to resolve {{{{{match[1]}}}}}")
        return values[match[1]]

    return _REFERENCE.sub(value, text)


def unrecorded(spec: Mapping[str, Any], ran: Collection[str]) -> str:
    """Why a run that came to its end well is no success; empty where it is one.

    ``ran`` are the templates of the tasks that succeeded. A template whose outputs are those of the whole run
    records what the run was for. Argo calls a run Succeeded also where such a task was skipped or omitted.
    """
    missing = [
        str(template.get("name"))
        for template in spec.get("templates") or ()
        if template.get("name") not in ran
        and any(p.get("globalName") for p in (template.get("outputs") or {}).get("parameters") or ())
    ]
    said = f"ended without {', '.join(missing)}, which was to record its outcome and did not run"
    return said if missing else ""


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str | int) -> float:
    """A duration as Argo's back-off takes it: ``10`` (seconds), ``500ms``, ``1m30s``, ``2h``, ``1d``."""
    if re.fullmatch(r"\d{1,9}", str(text)):
        return float(text)
    parts = re.findall(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)", str(text))
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration; write it as in 30s, 1m30s or 2h")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


# --- conditions: depends, when and retryStrategy.expression share &&, ||, ! and parentheses ----------------

Test = Callable[[Mapping[str, str]], bool]


class Condition(NamedTuple):
    """A parsed condition: the names that it reads, and whether it holds for given values of them.

    Of the names in ``items`` it reads what became of the items that a task is run for.
    """

    names: frozenset[str]
    holds: Test
    items: frozenset[str] = frozenset()


RESULTS: dict[str, tuple[str, ...]] = {
    "": ("Succeeded", "Skipped"),
    "Succeeded": ("Succeeded",),
    "Failed": ("Failed",),
    "Errored": ("Error",),
    "Skipped": ("Skipped",),
    "Omitted": ("Omitted",),
}
"""What may follow a task's name in ``depends``, and the phases of the task for which it is true."""

ITEMS: dict[str, Callable[[Collection[str]], bool]] = {
    "AnySucceeded": lambda phases: "Succeeded" in phases,
    "AllFailed": lambda phases: set(phases) == {"Failed"},
}
"""What may follow the name of a task with ``withParam``, by the phases of its items."""


def parse_depends(text: str) -> Condition:
    """``a && (b.Failed || !c.Skipped)``; it reads the phases of tasks by their names.

    Phases of items are read at ``TASK(``, with a space between them; a task that was not begun has none.
    """
    names: set[str] = set()
    items: set[str] = set()

    def atom(tokens: _Tokens) -> Test:
        word = tokens.take()
        task, _, result = word.partition(".")
        if not re.fullmatch(r"[A-Za-z0-9][-A-Za-z0-9_]*", task):
            raise ValueError(f"{word!r} in depends is not the name of a task")
        if result not in {*RESULTS, *ITEMS}:
            known = ", ".join(f".{name}" for name in (*RESULTS, *ITEMS) if name)
            raise ValueError(f".{result} in depends is not supported; use one of {known}")
        names.add(task)
        if result in ITEMS:
            items.add(task)
            return lambda phases: ITEMS[result](phases.get(f"{task}(", "").split())
        return lambda phases: phases[task] in RESULTS[result]

    return _parse(text, atom, names)._replace(items=frozenset(items))


def start_condition(task: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]]) -> Condition:
    """When one of a DAG's ``tasks`` starts: its ``depends``, or all of its ``dependencies``.

    Argo reads the latter as ``&&``, where one that has ``continueOn`` may also have failed so.
    """
    text = task.get("depends") or " && ".join(
        f"({' || '.join((name, *(f'{name}.{_RESULT[phase]}' for phase in continues(tasks.get(name)))))})"
        for name in task.get("dependencies") or ()
    )
    if not isinstance(text, str):
        raise ValueError("depends is not a text")
    return parse_depends(text) if text else Condition(frozenset(), lambda _: True)


_RESULT = {"Failed": "Failed", "Error": "Errored"}


def continues(task: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The phases that its ``continueOn`` makes as good as success, for what depends on it and for the DAG."""
    wanted = (task or {}).get("continueOn")
    if not isinstance(wanted, Mapping):
        return ()
    return tuple(phase for phase, field in (("Failed", "failed"), ("Error", "error")) if wanted.get(field))


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "contains": operator.contains,
}
Operand = Callable[[Mapping[str, str]], float | str]


def parse_expression(text: str, variables: Collection[str] = ()) -> Condition:
    """Comparisons of numbers and texts, as in ``0.5 >= 0.9`` or ``asInt(lastRetry.exitCode) == 75``.

    With ``variables`` (a retry's expression) a bare word must be one of them, and a text may be asked whether
    it ``contains`` another; without (``when``, after substitution) a bare word is itself a text. Only numbers
    have an order, and NaN is not a number here.
    """
    names: set[str] = set()

    def operand(tokens: _Tokens) -> Operand:
        word = tokens.take()
        if word in ("asInt", "asFloat"):
            tokens.expect("(")
            inner = operand(tokens)
            tokens.expect(")")
            return lambda values: float(inner(values))
        if word[0] in "'\"":
            literal: float | str = word[1:-1]
        elif word in variables:
            names.add(word)
            return lambda values: values[word]
        elif re.fullmatch(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?", word):
            literal = float(word)
        elif variables and word not in ("true", "false"):
            raise ValueError(f"{word!r} is unknown in an expression; use one of {', '.join(sorted(variables))}")
        else:
            literal = word
        return lambda _: literal

    def atom(tokens: _Tokens) -> Test:
        left = operand(tokens)
        if tokens.next not in _COMPARE or (tokens.next == "contains" and not variables):
            return lambda values: _truth(left(values))
        symbol = tokens.take()
        right = operand(tokens)
        return lambda values: _compare(left(values), symbol, right(values))

    return _parse(text, atom, names)


def _truth(value: float | str) -> bool:
    if value not in ("true", "false"):
        raise ValueError(f"{value!r} is neither true nor false")
    return value == "true"


def _compare(left: float | str, symbol: str, right: float | str) -> bool:
    if symbol == "contains":
        if not isinstance(left, str) or not isinstance(right, str):
            raise ValueError(f"{left!r} contains {right!r} does not ask about two texts")
    elif symbol not in ("==", "!=") and (isinstance(left, str) or isinstance(right, str)):
        raise ValueError(f"{left!r} {symbol} {right!r} does not compare two numbers")
    return _COMPARE[symbol](left, right)


_TOKEN = re.compile(r"""\s*(&&|\|\||[()]|==|!=|>=|<=|[<>!]|'[^']*'|"[^"]*"|[^\s()&|!=<>'"]+)""")
_DEPTH = 50


class _Tokens:
    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        at, text = 0, text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise ValueError(f"cannot be read from {text[at:].strip()[:20]!r} on")
            self._tokens.append(match[1])
            at = match.end()
        if self._tokens.count("(") + self._tokens.count("!") > _DEPTH:
            raise ValueError("is nested too deeply")
        self._tokens.reverse()

    @property
    def next(self) -> str:
        return self._tokens[-1] if self._tokens else ""

    def take(self) -> str:
        if not self._tokens:
            raise ValueError("ends too early")
        return self._tokens.pop()

    def expect(self, token: str) -> None:
        found = self.take()
        if found != token:
            raise ValueError(f"has {found!r} where {token!r} should be")


def _parse(text: str, atom: Callable[[_Tokens], Test], names: set[str]) -> Condition:
    """``!`` binds closer than ``&&``, and ``&&`` closer than ``||``."""

    def any_of(tokens: _Tokens) -> Test:
        parts = [all_of(tokens)]
        while tokens.next == "||":
            tokens.take()
            parts.append(all_of(tokens))
        return lambda values: any(part(values) for part in parts)

    def all_of(tokens: _Tokens) -> Test:
        parts = [one(tokens)]
        while tokens.next == "&&":
            tokens.take()
            parts.append(one(tokens))
        return lambda values: all(part(values) for part in parts)

    def one(tokens: _Tokens) -> Test:
        if tokens.next == "!":
            tokens.take()
            inner = one(tokens)
            return lambda values: not inner(values)
        if tokens.next == "(":
            tokens.take()
            group = any_of(tokens)
            tokens.expect(")")
            return group
        return atom(tokens)

    tokens = _Tokens(text)
    test = any_of(tokens)
    if tokens.next:
        raise ValueError(f"has {tokens.next!r} where it should end")
    return Condition(frozenset(names), test)
