"""How raw rows become the network's input. Learned once, from the training rows; the same when it predicts.

A column of numbers is standardised with the mean and deviation of the training rows; a value that is missing
counts as the mean, and if the training rows have gaps too, one more input says that it was missing. Any other
column is a list of known values; what is missing, rare or new is *unknown*, which has a place of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

FEWEST_ROWS = 5
"""In which a value must occur to be known."""
MOST_VALUES = 1000
"""Of one column: the most frequent ones."""
FARTHEST = 8.0
"""Deviations from the mean beyond which all numbers are alike."""


def learn(frame: pd.DataFrame, *, target: str) -> dict[str, Any]:
    """What is to be kept of each column but the target, fit for JSON.

    A column with nothing to learn from is left out: without values, or with a text of its own in most rows.
    ValueError where no column remains.
    """
    numbers, texts = {}, {}
    for name in frame.columns.drop(target):
        if is_number(frame[name]):
            values = finite(frame[name])
            if np.isfinite(values).any():
                numbers[name] = {
                    "mean": float(np.nanmean(values)),
                    "deviation": float(np.nanstd(values)) or 1.0,
                    "gaps": bool(np.isnan(values).any()),
                }
        else:
            often = frame[name].dropna().astype(str).value_counts()
            known = sorted(often[often >= FEWEST_ROWS].index[:MOST_VALUES])
            if known:
                texts[name] = known
    if not numbers and not texts:
        raise ValueError(f"no column but {target} has anything to learn from")
    return {"numbers": numbers, "texts": texts}


def encode(frame: pd.DataFrame, columns: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """(rows, numbers and gaps) as floats, and (rows, texts) as places, where 0 is unknown."""
    numbers = []
    for name, kept in columns["numbers"].items():
        values = (finite(frame[name]) - kept["mean"]) / kept["deviation"]
        missing = np.isnan(values)
        numbers.append(np.where(missing, 0.0, values).clip(-FARTHEST, FARTHEST))
        if kept["gaps"]:
            numbers.append(missing.astype(float))
    places = []
    for name, known in columns["texts"].items():
        place = {value: i for i, value in enumerate(known, start=1)}
        places.append([place.get(str(value), 0) for value in frame[name]])
    rows = len(frame)
    return (
        torch.tensor(np.array(numbers).T if numbers else np.empty((rows, 0)), dtype=torch.float32),
        torch.tensor(np.array(places).T if places else np.empty((rows, 0)), dtype=torch.int64),
    )


def inputs(frame: pd.DataFrame, *, target: str, rows: int = 5) -> pd.DataFrame:
    """A few typical rows of what is learned from, as prediction gets them: their types become the signature.

    Values that are there, column by column; whole numbers as numbers, so that a later row may lack one.
    """
    columns = learn(frame, target=target)
    used = {name: pd.Series(finite(frame[name])) for name in columns["numbers"]}
    used |= {name: frame[name] for name in columns["texts"]}
    filled = {name: values.dropna().head(rows).reset_index(drop=True) for name, values in used.items()}
    return pd.DataFrame(filled).dropna()


def is_number(values: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values))


def finite(values: pd.Series) -> np.ndarray[Any, np.dtype[np.float64]]:
    """As floats; what is missing or infinite is not a number."""
    floats = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(floats), floats, np.nan)
