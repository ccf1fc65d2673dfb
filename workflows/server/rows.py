"""A request's JSON as a DataFrame, in MLflow's four input formats.

https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/#json-input
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")


class BadRequestError(Exception):
    """What is wrong with a request, in words for the one who sent it."""


def parse_rows(body: bytes, columns: list[str]) -> pd.DataFrame:
    """The rows of one request. ``columns`` name the values of rows that come as plain lists.

    Raises BadRequestError for anything that is not exactly one of the four formats, or holds no rows.
    """
    import pandas as pd

    try:
        request = json.loads(body, parse_constant=_refuse)
    except RecursionError as error:
        raise BadRequestError("the body is nested too deeply") from error
    except ValueError as error:
        raise BadRequestError(f"the body is not JSON: {error}") from error
    given = [name for name in FORMATS if isinstance(request, dict) and name in request]
    if len(given) != 1:
        raise BadRequestError(f"the body needs exactly one of {', '.join(FORMATS)}, as an object's key")
    data = request[given[0]]
    try:
        frame = (
            pd.DataFrame(**_split(data)) if given[0] == "dataframe_split" else _frame(data, columns, given[0])
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadRequestError(f"{given[0]} does not make a table: {error}") from error
    if frame.empty:
        raise BadRequestError(f"{given[0]} holds no rows")
    return frame


def _split(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict) or not {"columns", "data"} <= data.keys() <= {"columns", "data", "index"}:
        raise BadRequestError("dataframe_split needs columns and data, and may have index")
    return data


def _frame(data: Any, columns: list[str], name: str) -> pd.DataFrame:
    import pandas as pd

    if isinstance(data, dict) and name == "inputs":
        return pd.DataFrame(data)
    if not isinstance(data, list):
        raise BadRequestError(f"{name} needs a list of rows")
    if all(isinstance(row, dict) for row in data):
        return pd.DataFrame(data)
    if name == "dataframe_records":
        raise BadRequestError("dataframe_records needs a list of objects, one a row")
    return pd.DataFrame(data, columns=columns)


def _refuse(constant: str) -> None:
    raise BadRequestError(f"{constant} is not a JSON number; write null for a value that is missing")
