"""A team's own suite of Great Expectations, run by that package. :mod:`workflows.steps.contracts` calls it.

The package is an extra of its own (`trueup[great-expectations]`) and not in the steps' image: who has suites
puts it into an image of theirs, and names that in the Platform. Unlike pandera's rules, a suite needs all rows
in memory at once.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reconciler.core.errors import Terminal
from workflows.steps.rows import read_rows
from workflows.steps.rules import FIRST, Breach, Place

log = logging.getLogger(__name__)

_COLUMNS = ("column", "column_A", "column_B", "column_list", "batch_id")


def validated(suite: Path, name: str, folder: Path) -> Iterator[Breach]:
    """The expectations of ``suite`` that the rows in ``folder`` do not meet. ``name``: train or evaluation.

    Terminal where Great Expectations is not installed, or does not know all of the suite.
    """
    if importlib.util.find_spec("great_expectations") is None:
        raise Terminal(
            "the contract's engine is great-expectations, which is not installed here",
            where=suite.name,
            hint="name an image with trueup[great-expectations] as images.steps of the Platform",
        )
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.exceptions.exceptions import GreatExpectationsError

    try:
        said = [_expectation(each) for each in json.loads(suite.read_text(encoding="utf-8"))["expectations"]]
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        expectations = gx.ExpectationSuite(name=suite.stem, expectations=said)
        if len(expectations.expectations) < len(said):  # one that it does not know is only logged, and left out
            raise ValueError(f"{len(said) - len(expectations.expectations)} of its expectations are not known")
        asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
        batch = asset.add_batch_definition_whole_dataframe(name).get_batch({"dataframe": read_rows(folder)})
        answer: Any = batch.validate(expectations, result_format={"result_format": "COMPLETE"})
    except (GreatExpectationsError, ValueError, KeyError, TypeError) as error:
        what = f"is not a suite that can be run: {str(error).splitlines()[0]}"
        raise Terminal(what, where=suite.name) from error
    for result in answer.to_json_dict()["results"]:
        if not result["success"]:
            yield _breach(result, name)


def _expectation(said: Mapping[str, Any]) -> dict[str, Any]:
    """As version 1 writes one; before, its type was ``expectation_type``."""
    kwargs = {key: value for key, value in said.get("kwargs", {}).items() if key != "batch_id"}
    return {
        "type": said.get("type") or said["expectation_type"],
        "kwargs": kwargs,
        "meta": said.get("meta") or {},
    }


def _breach(result: Mapping[str, Any], name: str) -> Breach:
    """No value is told: a suite does not say which columns are personal."""
    config, found = result["expectation_config"], result.get("result") or {}
    kwargs = config["kwargs"]
    columns = [
        kwargs.get("column"),
        kwargs.get("column_A"),
        kwargs.get("column_B"),
        *kwargs.get("column_list", ()),
    ]
    asks = {key: value for key, value in kwargs.items() if key not in _COLUMNS and value is not None}
    asked = ", ".join(f"{key} {value}" for key, value in asks.items())[:100] or "so"
    fault = result.get("exception_info") or {}
    for each in [fault] if "raised_exception" in fault else list(fault.values()):
        if each.get("raised_exception"):
            log.info("%s: %s", config["type"], each.get("exception_message"))
            asked = "could not be asked; the log of the step says why"
    numbers = [number for number in found.get("unexpected_index_list") or () if isinstance(number, int)]
    return Breach(
        rows=name,
        column=", ".join(map(str, filter(None, columns))),
        check=config["type"].removeprefix("expect_column_values_to_").removeprefix("expect_"),
        asked=asked,
        count=int(found.get("unexpected_count") or 0) or 1,
        first=tuple(Place(file=name, row=number + 1) for number in numbers[:FIRST]),
    )
