"""The network, and how a row becomes its input; shared by training and prediction."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

CATEGORIES = ("carrier", "origin", "dest", "weekday")
WEATHER = ("temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib")
PLAIN = ("arrival", "distance")
COLUMNS = [*CATEGORIES, "hour", "minute", *PLAIN, *WEATHER, "wind_dir"]
"""What prediction needs of a row. Weather may be missing; nothing else may."""
MINUTES = 24 * 60
UNKNOWN = 0
"""The bucket of every value that training did not see."""
FARTHEST = 4.0
"""Standard deviations beyond which a number is not believed: summer is outside of what winter taught."""


class Inputs(NamedTuple):
    """numbers (rows, NUMBERS) standardised; codes (rows, categories) whole numbers, 0 for the unknown."""

    numbers: Tensor
    codes: Tensor


class Encoding(NamedTuple):
    """What was learned of the training rows: the values of each category, and how to standardise numbers."""

    values: dict[str, list[Any]]
    mean: list[float]
    deviation: list[float]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Encoding:
        """Of the training rows. A number that never varies, or that every row lacks, is left as it is."""
        numbers = _numbers(frame)
        there = np.isfinite(numbers)
        count = np.maximum(there.sum(axis=0), 1)
        mean = np.where(there, numbers, 0.0).sum(axis=0) / count
        deviation = np.sqrt((np.where(there, numbers - mean, 0.0) ** 2).sum(axis=0) / count)
        return cls(
            values={name: sorted(frame[name].unique().tolist()) for name in CATEGORIES},
            mean=mean.tolist(),
            deviation=np.where(deviation > 0, deviation, 1.0).tolist(),
        )

    def inputs(self, frame: pd.DataFrame) -> Inputs:
        """Of raw rows. A missing weather value becomes the mean, and a mark that it was missing; any other
        missing value is a ValueError."""
        numbers = (_numbers(frame) - self.mean) / self.deviation
        missing = np.isnan(numbers)
        marks = missing[:, -MAY_MISS:]
        if missing[:, :-MAY_MISS].any() or frame[list(CATEGORIES)].isna().any(axis=None):
            raise ValueError(f"a value is missing that is no weather; every row needs {', '.join(COLUMNS[:8])}")
        clipped = np.clip(np.where(missing, 0.0, numbers), -FARTHEST, FARTHEST)
        codes = [
            frame[name].map({value: code for code, value in enumerate(known, UNKNOWN + 1)}).fillna(UNKNOWN)
            for name, known in self.values.items()
        ]
        return Inputs(
            torch.from_numpy(np.hstack([clipped, marks]).astype(np.float32)),
            torch.from_numpy(np.column_stack(codes).astype(np.int64)),
        )


MAY_MISS = len(WEATHER) + 2
"""How many of the last numbers may be missing: the weather, and the two of the wind's direction."""
NUMBERS = 3 + len(PLAIN) + 2 * MAY_MISS
"""Inputs of :class:`Network` besides the embeddings: three of the time of day, and a mark for what may miss."""


def _numbers(frame: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(rows, NUMBERS without the marks). Angles as sine and cosine, so that 23:59 is near 0:00."""
    leaves = frame["hour"].to_numpy(dtype=np.float64) * 60 + frame["minute"].to_numpy(dtype=np.float64)
    clock = leaves / MINUTES * 2 * np.pi
    wind = np.deg2rad(frame["wind_dir"].to_numpy(dtype=np.float64))
    plain = [frame[name].to_numpy(dtype=np.float64) for name in PLAIN]
    weather = [frame[name].to_numpy(dtype=np.float64) for name in WEATHER]
    return np.column_stack([leaves, np.sin(clock), np.cos(clock), *plain, *weather, np.sin(wind), np.cos(wind)])


class Network(nn.Module):
    """An embedding for each category and the numbers, through two hidden layers, to one logit of being late.

    ``known`` is the number of values of each category; each has one bucket more, for the unknown.
    """

    def __init__(self, known: list[int], *, embedding: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(count + 1, embedding) for count in known)
        self.layers = nn.Sequential(
            nn.Linear(NUMBERS + embedding * len(known), hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, 1),
        )

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """(rows,) logits."""
        embedded = [embed(codes[:, place]) for place, embed in enumerate(self.embeddings)]
        logits: Tensor = self.layers(torch.cat([numbers, *embedded], dim=1))
        return logits.squeeze(1)
