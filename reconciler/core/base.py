"""The one base of our data types, and the scalar types that documents share."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel


class Frozen(BaseModel):
    """Immutable data: unknown fields refused, camelCase outside, snake_case inside."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        allow_inf_nan=True,
    )


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"^(\d{1,9})(s|m|h|d)$")


def parse_duration(value: Any) -> timedelta:
    """``90s``, ``10m``, ``24h`` or ``7d`` as a timedelta; one number and one unit, as in Prometheus."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("is not a duration; write a whole number and a unit, as in 90s, 10m, 24h or 7d")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def format_duration(value: timedelta) -> str:
    """The shortest exact form that :func:`parse_duration` reads back."""
    seconds = int(value.total_seconds())
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"


def _in_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("has no time zone; write it in UTC, as in 2026-03-01T12:00:00Z")
    return value.astimezone(UTC)


def format_instant(value: datetime) -> str:
    """UTC, to the second unless it has a fraction: ``2026-03-01T12:00:00Z``."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def show_instant(value: datetime) -> str:
    """For sentences: the whole second at or after ``value``, so that what is due then is due by then."""
    whole = value.replace(microsecond=0)
    return format_instant(whole if whole == value else whole + timedelta(seconds=1))


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _DURATION.pattern}),
]
Instant = Annotated[
    datetime,
    AfterValidator(_in_utc),
    PlainSerializer(format_instant, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]

DNS_1123 = r"^[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?$"
Name = Annotated[str, StringConstraints(pattern=DNS_1123)]
"""A DNS-1123 label of at most 30 characters: it becomes part of workflow, branch and object names."""

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Md5 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}(\.dir)?$")]
VersionNumber = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}$")]
RegisteredName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][-A-Za-z0-9_.]{0,99}$")]
RelativePath = Annotated[
    str,
    StringConstraints(pattern=r"^([A-Za-z0-9_][-A-Za-z0-9_.]*/)*[A-Za-z0-9_][-A-Za-z0-9_.]*$", max_length=200),
]
"""A path inside the repository: allow-listed characters, no leading slash, no part that starts with a dot."""


NOT_YET = "is part of trueup's format, but this version does not act on it yet"


def _refuse(value: Any) -> Any:
    if value is None:
        return None
    raise ValueError(f"{NOT_YET}; remove it")


Later = Annotated[Any, BeforeValidator(_refuse), WithJsonSchema({"type": "null"})]
"""A field that the format names and this version refuses, so that nothing is ever silently ignored."""


class Document(Frozen):
    """What every kind has. Strict: a quoted number is not a number."""

    model_config = ConfigDict(strict=True)

    api_version: Literal["trueup.dev/v1"] = Field(default="trueup.dev/v1")
    kind: str


class Subject(Frozen):
    """Whom an action or a hold is about: a model, in an environment or (training) in none."""

    environment: str = ""
    model: str

    @classmethod
    def of(cls, key: str) -> Subject:
        """Of ``ENV/MODEL``, as :meth:`__str__` writes it."""
        environment, _, model = key.rpartition("/")
        return cls(environment=environment, model=model)

    def __str__(self) -> str:
        return f"{self.environment}/{self.model}" if self.environment else self.model
