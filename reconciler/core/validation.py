"""Turns pydantic's errors about a document into sentences for its author. Called by :mod:`reconciler.load`.

Every error of a document is told at once, with the line it is on, the field as the file spells it, what stands
there, and what would be right.
"""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from reconciler.core.base import DNS_1123
from reconciler.core.strict_yaml import Parsed, Path

T = TypeVar("T", bound=BaseModel)

NAME_HINT: Final = (
    "use lower-case letters, digits and '-', at most 30, with a letter or digit at both ends, as in digits-v2"
)


class Complaint(NamedTuple):
    """One thing that is wrong at ``path`` inside a document."""

    line: int
    what: str
    hint: str = ""


def validate(kind: type[T], parsed: Parsed) -> T | tuple[Complaint, ...]:
    """The document, or everything that is wrong with it.

    By way of JSON and strict: lists become tuples and texts instants, but ``"3"`` never becomes 3.
    """
    if not isinstance(parsed.value, dict):
        what = "is empty" if parsed.value is None else f"must be a mapping, not {_shown(parsed.value)}"
        return (Complaint(1, what, f"start with apiVersion and kind: {_kind_of(kind)}"),)
    unversioned = [
        Complaint(1, f"has no {field}", f"add {field}: {value}")
        for field, value in (("apiVersion", "trueup.dev/v1"), ("kind", _kind_of(kind)))
        if field in {f.alias or name for name, f in kind.model_fields.items()} and field not in parsed.value
    ]
    try:
        document = kind.model_validate_json(json.dumps(parsed.value), strict=True)
    except ValidationError as error:
        found = [c for c in _complaints(kind, parsed, error) if c.what not in {u.what for u in unversioned}]
        return tuple(sorted({*unversioned, *found}))
    return tuple(unversioned) or document


def nearest(word: str, known: Iterable[str], *, if_none: str = "") -> str:
    """A hint for a word that is not one of ``known``: the nearest, or all of them, or ``if_none``."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    if not names:
        return if_none
    shown = names[:12]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"there {'is' if len(names) == 1 else 'are'} {', '.join(shown)}{more}"


def _kind_of(kind: type[BaseModel]) -> str:
    return kind.__name__


def _complaints(kind: type[BaseModel], parsed: Parsed, error: ValidationError) -> Iterator[Complaint]:
    """One complaint for each place; the branches of a union at one place are told together."""
    by_place: dict[Path, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        place = _place(parsed.value, detail)
        by_place.setdefault(place, []).append(detail)
    for place, details in by_place.items():
        in_a_branch = any(len(other) > len(place) and other[: len(place)] == place for other in by_place)
        if in_a_branch and all(detail["type"] == "literal_error" for detail in details):
            continue  # the other branch of the union was meant, and its own errors are told
        line = parsed.line_of(place[:-1] if details[0]["type"] == "missing" else place)
        yield Complaint(line, *_sentence(kind, place, details))


def _place(value: Any, detail: ErrorDetails) -> Path:
    """pydantic's location without the names of union branches, which are not in the file."""
    place: list[str | int] = []
    parts = detail["loc"]
    for position, part in enumerate(parts):
        last_of_missing = detail["type"] == "missing" and position == len(parts) - 1
        inside = (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        )
        if inside:
            value = value[part]
            place.append(part)
        elif last_of_missing:
            place.append(part)
    if detail["type"] == "union_tag_invalid":
        place.append("type")
    return tuple(place)


_EXPECTED: Final = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "model_type": "a mapping",
    "dict_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "datetime_type": "an instant",
    "datetime_parsing": "an instant",
    "datetime_from_date_parsing": "an instant",
    "datetime_object_invalid": "an instant",
}
_BOUNDS: Final = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "greater than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}
_IMAGE: Final = r"^[a-z0-9][a-z0-9./:_-]*@sha256:[0-9a-f]{64}$"
_PATH: Final = r"^([A-Za-z0-9_][-A-Za-z0-9_.]*/)*[A-Za-z0-9_][-A-Za-z0-9_.]*$"
PATTERN_HINTS: Final = {
    DNS_1123: NAME_HINT,
    r"^sha256:[0-9a-f]{64}$": "write sha256: and 64 lower-case hex digits",
    r"^(sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}(\.dir)?)$": "write sha256: or md5: and lower-case hex digits",
    r"^[1-9][0-9]{0,8}$": 'write a version number as text, as in "3"',
    r"^https?://[A-Za-z0-9._:/\[\]-]+$": "write http:// or https://, host, port and path; no account in it",
    r"^[A-Za-z][A-Za-z0-9_.-]{0,62}$": "begin with a letter; then letters, digits, _ . -, at most 63",
    r"^[A-Za-z0-9][-A-Za-z0-9_.]{0,99}$": "use letters, digits, '-', '_' and '.', at most 100",
    r"^[A-Z][A-Z0-9_]*$": "write the name of an environment variable, never the value itself",
    r"^[a-z][a-z0-9_-]{0,62}$": "use a lower-case letter, then letters, digits, '-' and '_', at most 63",
    r"^[a-z][a-z-]*\.[a-z][a-z0-9_-]*$": "write MEASUREMENT.METRIC, as in evaluate.accuracy",
    r"^[<>=!~0-9., ]+$": 'write versions as pip does, as in ">=0.1,<0.2"',
    r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi)?$": 'write a quantity as text, as in "500m" or "1Gi"',
    r"^/[^\x00-\x1f]{1,200}$": "write the absolute path of a mounted file, never the value itself",
    r"^https?://[^\s@?#]+$": "write https:// and the address, without a name or password in it",
    r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$": "write OWNER/NAME",
    r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,99}$": "write an account, or ORGANISATION/TEAM",
    r"^[^\x00-\x20]([^\x00-\x1f]{0,98}[^\x00-\x20])?$": "write the account as the forge spells it",
    r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$": "write VENDOR/RESOURCE as nodes offer it, as in nvidia.com/gpu",
    r"^\d{1,15}(\.\d{1,9})?[kMGT]?B$": "write a size as in 500MB, 20GB or 1.5TB",
    _PATH: "write a path below that folder, with no part that starts with a dot",
    r"^\.[A-Za-z0-9_]{1,20}$": "write a suffix with its dot, as in .ubj",
    r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$": "write MODULE.NAME as the pickle has it, as in collections.Counter",
    r"^#?[^\s#<>&]{1,80}$": "write the channel's id, as in C0123456789, or #NAME",
    _IMAGE: "pin the image by digest, as in registry.example/server@sha256:HEX",
}
"""What a text must look like, by the pattern it failed; a test keeps this complete."""

POINTER_HINT: Final = (
    "write a path below the model's folder that ends in .dvc, with no part that starts with a dot"
)


def _sentence(kind: type[BaseModel], place: Path, details: list[ErrorDetails]) -> tuple[str, str]:
    """What is wrong at one place, and a hint."""
    field, detail = _dotted(place), details[0]
    given, error, context = detail["input"], detail["type"], detail.get("ctx", {})
    if error == "missing":
        inside = _dotted(place[:-1])
        return f"{inside + ' ' if inside else ''}has no {place[-1]}", f"add {place[-1]}"
    if error == "extra_forbidden":
        known = _fields(kind, detail["loc"][:-1])
        return f"has the unknown field {field}", nearest(str(place[-1]), known)
    if error == "union_tag_not_found":
        return f"{field} has no type", "add type"
    if error == "union_tag_invalid":
        tags = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
        hint = nearest(context["tag"], tags)
        return f"{field} must be one of {', '.join(tags)}, not {_shown(context['tag'])}", (
            hint if "did you" in hint else ""
        )
    if all(d["type"] in _EXPECTED or d["type"] == "literal_error" for d in details):
        return _wrong_value(field, given, details)
    if error == "value_error":
        what, _, hint = str(context["error"]).partition("; ")
        subject = f"{field} " if field else ""
        shown = (
            f"{_shown(given)} " if isinstance(given, str | int | float) and what.startswith("is not") else ""
        )
        return f"{subject}{'= ' if shown else ''}{shown}{what}", hint
    if error in _BOUNDS:
        name, words = _BOUNDS[error]
        return f"{field} must be {words} {context[name]}, not {_shown(given)}", ""
    if error == "string_too_long":
        return f"{field} must have at most {context['max_length']} characters, not {len(str(given))}", ""
    if error == "string_pattern_mismatch":
        pattern = str(context["pattern"])
        default = POINTER_HINT if r"\.dvc$" in pattern else f"it must match {pattern}"
        return f"{field} = {_shown(given)} is not acceptable", PATTERN_HINTS.get(pattern, default)
    return f"{field}: {detail['msg']}", ""


def _wrong_value(field: str, given: Any, details: list[ErrorDetails]) -> tuple[str, str]:
    """Another type, or not one of the listed words."""
    choices = [word for d in details if d["type"] == "literal_error" for word in _words(d)]
    types_ = list(dict.fromkeys(_EXPECTED[d["type"]] for d in details if d["type"] in _EXPECTED))
    if choices and not types_:
        listed = ", ".join(choices)
        hint = nearest(given, choices) if isinstance(given, str) and len(choices) > 1 else ""
        if len(choices) == 1:
            return f"{field} must be {listed}, not {_shown(given)}", ""
        return f"{field} must be one of {listed}, not {_shown(given)}", hint if "did you" in hint else ""
    if "a number" in types_:
        types_ = [t for t in types_ if t != "a whole number"]
    hint = ""
    if "an instant" in types_:
        hint = "write it in UTC, as in 2026-03-01T12:00:00Z"
    elif isinstance(given, str) and ({"a whole number", "a number", "true or false"} & set(types_)):
        hint = "remove the quotes" if _reads_as(given, types_) else ""
    elif types_ == ["a text"] and isinstance(given, int | float):
        hint = "put it in quotes"
    return f"{field} must be {_either([*types_, *choices])}, not {_shown(given)}", hint


def _either(words: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _words(detail: ErrorDetails) -> list[str]:
    """The listed words of a Literal, out of pydantic's ``'a', 'b' or 'c'``."""
    return [part for index, part in enumerate(str(detail["ctx"]["expected"]).split("'")) if index % 2]


def _reads_as(text: str, types_: list[str]) -> bool:
    if "true or false" in types_ and text in ("true", "false"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return "a number" in types_ or text.lstrip("+-").isdigit()


def _dotted(place: Path) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")


def _shown(value: Any) -> str:
    """A value of the file, short enough for a one-line message."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return repr(value if len(value) <= 60 else value[:60] + "...")
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
    return str(value)


def _fields(kind: type[BaseModel], location: Path) -> set[str]:
    """The field names, as files spell them, that are known at pydantic's ``location`` inside a document.

    Parts of it that are no field are branches of a union; those of a tagged one say which is meant.
    """
    types_: list[Any] = [kind]
    for part in location:
        inside = [inner for outer in types_ for inner in _inside(outer, part)]
        types_ = inside or [t for t in types_ if _is_tagged(t, part)] or types_
    models = [t for t in types_ if isinstance(t, type) and issubclass(t, BaseModel)]
    return {field.alias or name for model in models for name, field in model.model_fields.items()}


def _is_tagged(annotation: Any, tag: str | int) -> bool:
    field = getattr(annotation, "model_fields", {}).get("type")
    return field is not None and tag in get_args(field.annotation)


def _inside(annotation: Any, part: str | int) -> Iterator[Any]:
    """The types that a key or a position leads to, unions and annotations unwrapped."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if part == (field.alias or name):
                yield from _unwrapped(field.annotation)
    elif get_origin(annotation) in (dict, Mapping):
        yield from _unwrapped(get_args(annotation)[1])
    elif get_origin(annotation) in (tuple, list):
        yield from _unwrapped(get_args(annotation)[0])


def _unwrapped(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _unwrapped(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _unwrapped(member)
    elif origin is not Literal:
        yield annotation
