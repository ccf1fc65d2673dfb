"""The contract of a model, as its commit has it; whether rows keep it; and the report of that.

Steps `check` and `contract` call this. The engine is pandera (:mod:`workflows.steps.rules`), or the team's own
suite of Great Expectations.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from reconciler.core.contract import Contract
from reconciler.core.desired import blob_id
from reconciler.core.digests import canonical_json
from reconciler.core.documents import Model
from reconciler.core.errors import Terminal
from reconciler.core.strict_yaml import read
from reconciler.core.validation import validate
from workflows.steps.rules import Breach, Examined, examine

log = logging.getLogger(__name__)

SHOWN = 3
"""Breaches in one sentence; the report has all."""


class Declared(NamedTuple):
    """``suite`` is the file that the contract names, where its engine is Great Expectations."""

    model: Model
    contract: Contract
    suite: Path | None


def declared(source: Path, name: str, *, digest: str) -> Declared:
    """What models/NAME/model.yaml says. Terminal where that, or its suite, is not of this digest."""
    where = f"models/{name}/model.yaml"
    try:
        content = (source / where).read_bytes()
    except OSError as error:
        raise Terminal("is not there", where=where) from error
    model = validate(Model, read(content, where))
    if isinstance(model, tuple) or model.data.contract is None:
        raise Terminal(
            "has no data.contract that can be read", where=where, hint="`reconcile validate` says more"
        )
    contract, suite, content_id = model.data.contract, None, ""
    if contract.suite is not None:
        suite = source / "models" / name / contract.suite
        try:
            content_id = blob_id(suite.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise Terminal("is not readable", where=f"models/{name}/{contract.suite}") from error
    if contract.digest(content_id) != digest:
        raise Terminal(
            f"its contract is not {digest}",
            where=where,
            hint="the reconciler that asked and the image that measures read it otherwise",
        )
    return Declared(model, contract, suite)


def examined(said: Declared, sets: Mapping[str, Path]) -> Examined:
    """Rows against the contract, by its engine; `train`, `evaluation` or both."""
    found = examine(said.contract, said.model.data.evaluation.target, sets, datetime.now(UTC))
    if said.suite is not None:
        from workflows.steps.expectations import validated

        breaches = [breach for name, folder in sets.items() for breach in validated(said.suite, name, folder)]
        found = found.model_copy(update={"breaches": (*found.breaches, *breaches)})
    for breach in found.breaches:
        log.info("%s", breach)
    return found


def sentence(breaches: tuple[Breach, ...]) -> str:
    """The first of them, in one line, and how many more there are. No value of a row is in it."""
    more = len(breaches) - SHOWN
    return "; ".join(map(str, breaches[:SHOWN])) + (f"; and {more} more" if more > 0 else "")


def report(name: str, digest: str, found: Examined) -> bytes:
    """Every breach by column and check, with the first rows of each, as JSON."""
    return (
        canonical_json({"model": name, "contract": digest, **found.model_dump(mode="json")}) + "\n"
    ).encode()
