"""A request's JSON as the DataFrame that a model's signature asks for, from MLflow's four input formats.

https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/#json-input. MLflow checks signatures itself,
but its message repeats the data and the whole schema; the ones here name the column.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.types import Schema

FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")


class BadRequestError(Exception):
    """What is wrong with a request, in words for the one who sent it."""


def parse_rows(body: bytes, schema: Schema | None) -> pd.DataFrame:
    """The rows of one request: the schema's columns, in its types; without a schema, whatever was sent.

    Raises BadRequestError for anything that is not exactly one of the four formats, holds no rows, or does not
    fit the schema. Columns that the schema does not have are dropped.
    """
    import pandas as pd

    try:
        request = json.loads(body, parse_constant=_refuse)
    except RecursionError as error:
        raise BadRequestError("the body is nested too deeply") from error
    except ValueError as error:
        raise BadRequestError(f"the body is not JSON: {error}") from error
    columns = [str(name) for name in schema.input_names()] if schema else []
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
    if not frame.columns.is_unique:
        raise BadRequestError(f"{given[0]} names a column twice")
    return _conform(frame, schema) if schema and schema.has_input_names() else frame


def _split(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict) or not {"columns", "data"} <= data.keys() <= {"columns", "data", "index"}:
        raise BadRequestError("dataframe_split needs columns and data, and may have index")
    if not isinstance(data["columns"], list) or not all(isinstance(name, str) for name in data["columns"]):
        raise BadRequestError("dataframe_split needs columns as a list of names")
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
    return pd.DataFrame(data, columns=columns or None)


def _conform(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    import pandas as pd

    missing = [str(name) for name in schema.required_input_names() if name not in frame.columns]
    if missing:
        named = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise BadRequestError(f"{len(missing)} of the model's columns are missing: {named}")
    columns = {}
    for column in schema.inputs:
        if column.name not in frame.columns:
            continue
        # Arrays, objects and bytes are MLflow's to check.
        convert, wanted = _TYPES.get(getattr(column.type, "name", ""), (lambda values: values, ""))
        try:
            columns[column.name] = convert(frame[column.name])
        except (ValueError, TypeError, OverflowError) as error:
            raise BadRequestError(f"column {column.name} needs {wanted}") from error
    return pd.DataFrame(columns, index=frame.index)  # at once: a frame copies all columns for each new one


def _whole(values: pd.Series) -> pd.Series:
    if values.dtype.kind == "i":
        return values.astype("int64")
    numbers = _numbers(values)
    if not ((numbers % 1 == 0) & (numbers.abs() < 2.0**63)).all():
        raise ValueError
    return values.astype("int64")


def _numbers(values: pd.Series) -> pd.Series:
    if values.dtype.kind not in "if" and values.map(lambda value: isinstance(value, (bool, str))).any():
        raise ValueError
    return values.astype("float64")


def _texts(values: pd.Series) -> pd.Series:
    if not (values.map(lambda value: isinstance(value, str)) | values.isna()).all():
        raise ValueError
    return values


def _booleans(values: pd.Series) -> pd.Series:
    if values.dtype != bool:
        raise ValueError
    return values


def _instants(values: pd.Series) -> pd.Series:
    import pandas as pd

    return pd.to_datetime(values)


_TYPES: dict[str, tuple[Callable[[pd.Series], pd.Series], str]] = {
    "integer": (lambda values: _whole(values).astype("int32"), "whole numbers"),
    "long": (_whole, "whole numbers"),
    "float": (lambda values: _numbers(values).astype("float32"), "numbers"),
    "double": (_numbers, "numbers"),
    "string": (_texts, "texts"),
    "boolean": (_booleans, "true or false"),
    "datetime": (_instants, "instants, as in 2026-03-01T12:00:00"),
}


def _refuse(constant: str) -> None:
    raise BadRequestError(f"{constant} is not a JSON number; write null for a value that is missing")
