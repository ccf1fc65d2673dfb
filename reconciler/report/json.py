"""The same data for machines: one JSON document, keys as in the documents, stable between patch releases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from reconciler.core.plan import Outcome, Plan


def plan(plan: Plan, outcomes: tuple[Outcome, ...] | None = None, remaining: int | None = None) -> str:
    """The plan with its digest, and the outcomes (null where nothing was applied).

    ``forgeCallsLeft`` is there where the forge counts calls.
    """
    return dump(_ticked(plan, outcomes, remaining))


def plan_line(plan: Plan, outcomes: tuple[Outcome, ...] | None = None, remaining: int | None = None) -> str:
    """The same on one line, for a stream of them (https://jsonlines.org)."""
    return json.dumps(_ticked(plan, outcomes, remaining), ensure_ascii=False, allow_nan=False) + "\n"


def _ticked(plan: Plan, outcomes: tuple[Outcome, ...] | None, remaining: int | None) -> dict[str, Any]:
    done = None if outcomes is None else [_plain(outcome) for outcome in outcomes]
    counted = {} if remaining is None else {"forgeCallsLeft": remaining}
    return {"digest": plan.digest, "plan": _plain(plan), "outcomes": done, **counted}


def rows(items: Sequence[BaseModel]) -> str:
    """A list of records. Nothing is left out: what is not known is null."""
    return dump([_plain(item) for item in items])


def dump(value: Any) -> str:
    """Indented, in the order given, strictly JSON: a NaN is an error here and null in our types."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(item: BaseModel) -> Any:
    return item.model_dump(mode="json", by_alias=True)
