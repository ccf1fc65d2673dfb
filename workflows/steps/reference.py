"""What a version was trained on, as counts; and how far other rows are from that.

Step `train` writes the counts into the model's files (``reference.json``), so they are part of its artifact
digest; step `drift` compares recorded requests with them, and training rows are never loaded again. Numbers are
counted in the deciles of the training rows, texts by their most frequent values; missing is a bin of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from reconciler.core.base import Frozen
from reconciler.core.digests import canonical_json
from workflows.model_files import read_beside
from workflows.steps.bootstrap import RESAMPLES, SEED

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]

FILE = "reference.json"
BINS = 10
MOST_VALUES = 50
"""Of a text column that are counted one by one; the rest is `other`."""
FEWEST_ROWS = 10
"""With a value of its own. What fewer rows hold may be about one person, and stays out of the model's files."""
LONGEST_VALUE = 100
EMPTY = 1e-4
"""The share that an empty bin counts as, so that the logarithm has a value: one row in ten thousand."""

_NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal")
_TEXTS = ("string", "boolean", "categorical", "empty")


class Numbers(Frozen):
    """``counts[i]`` are the rows in (edges[i-1], edges[i]]; the first and the last bin have no outer end."""

    kind: Literal["numbers"] = "numbers"
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    missing: int

    @classmethod
    def of(cls, values: pd.Series) -> Numbers:
        """With the deciles of ``values`` as edges. A least value that fills the first bin has a bin to itself,
        so that what falls below it is seen."""
        numbers = _floats(values)
        finite = np.unique(numbers[np.isfinite(numbers)])
        edges = finite[:0]
        if len(finite):
            inner = np.arange(1, BINS) / BINS
            edges = np.unique(np.quantile(numbers[np.isfinite(numbers)], inner, method="inverted_cdf"))
            if edges[0] == finite[0]:
                edges = np.concatenate(([np.nextafter(edges[0], -np.inf)], edges))
        empty = cls(edges=tuple(map(float, edges)), counts=(), missing=0)
        *counts, missing = empty.count(values).tolist()
        return empty.model_copy(update={"counts": tuple(counts), "missing": missing})

    def count(self, values: pd.Series) -> Counts:
        """Rows in each bin, and last those without a number.

        How many are above each edge, for so few edges, costs a tenth of looking up the bin of each row. What is
        no number is above nothing.
        """
        numbers = _floats(values)
        missing = np.count_nonzero(np.isnan(numbers))
        above = (np.count_nonzero(numbers > edge) for edge in self.edges)
        at_least = np.array([len(numbers) - missing, *above, 0])
        return np.append(at_least[:-1] - at_least[1:], missing)

    @property
    def bins(self) -> Counts:
        return np.array([*self.counts, self.missing])


class Texts(Frozen):
    """How many rows had each of the frequent values; ``other`` is what is not among them."""

    kind: Literal["texts"] = "texts"
    values: dict[Annotated[str, Field(max_length=LONGEST_VALUE)], int]
    other: int
    missing: int

    @classmethod
    def of(cls, values: pd.Series) -> Texts:
        found = _frequencies(values)
        enough = {text: n for text, n in found.items() if n >= FEWEST_ROWS and len(text) <= LONGEST_VALUE}
        kept = dict(sorted(enough.items(), key=lambda item: (-item[1], item[0]))[:MOST_VALUES])
        present = sum(found.values())
        return cls(values=kept, other=present - sum(kept.values()), missing=len(values) - present)

    def count(self, values: pd.Series) -> Counts:
        """Rows with each of the values, then with another one, and last without."""
        found = _frequencies(values)
        known = [found.get(text, 0) for text in self.values]
        present = sum(found.values())
        return np.array([*known, present - sum(known), len(values) - present])

    @property
    def bins(self) -> Counts:
        return np.array([*self.values.values(), self.other, self.missing])


Column = Annotated[Numbers | Texts, Field(discriminator="kind")]


class Reference(Frozen):
    """The content of ``reference.json``. ``left_out``: column -> why it was not counted."""

    format: Literal["1"] = "1"
    rows: int
    features: dict[str, Column]
    prediction: Column | None = None
    left_out: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def of(cls, features: pd.DataFrame, predictions: pd.Series | str, task: str) -> Reference:
        """Counts of raw training rows and of what the model predicts for them.

        ``predictions`` is a sentence where there are none. Those of a classification are texts, whatever their
        type.
        """
        columns: dict[str, Numbers | Texts] = {}
        left_out: dict[str, str] = {}
        for name in map(str, features.columns):
            counted = _column(features[name])
            if isinstance(counted, str):
                left_out[name] = counted
            else:
                columns[name] = counted
        prediction = None
        if isinstance(predictions, str):
            left_out["prediction"] = predictions
        else:
            prediction = (Numbers if task == "regression" else Texts).of(predictions)
        return cls(rows=len(features), features=columns, prediction=prediction, left_out=left_out)

    def write(self, model: Path) -> None:
        (model / FILE).write_text(canonical_json(self) + "\n")

    def count(self, rows: pd.DataFrame) -> dict[str, Counts]:
        """The bins of each feature for these rows; add those of several chunks. A column that is not there is
        missing in every row."""
        absent = np.full(len(rows), np.nan)
        return {
            name: column.count(rows[name] if name in rows.columns else _series(absent))
            for name, column in self.features.items()
        }


def read_reference(model: Path) -> Reference | None:
    """What the version in this folder was trained on; None where its files do not say. Terminal if damaged."""
    return read_beside(model, FILE, Reference)


def psi(expected: Counts, actual: Counts) -> NDArray[np.float64]:
    """The population stability index of ``actual`` (..., bins) against ``expected`` (bins), in nats.

    sum over bins of (a - e) ln(a / e), with a and e the shares of rows in the bin: N. Siddiqi, Credit Risk
    Scorecards (2006), section 6; it is the symmetrised Kullback-Leibler divergence. Shares below EMPTY count
    as EMPTY. By chance alone it is about (bins - 1) (1/rows + 1/reference rows): B. Yurdakul, Statistical
    Properties of Population Stability Index (2018). Not a number where either has no rows.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        e = np.maximum(expected / expected.sum(), EMPTY)
        a = np.maximum(actual / actual.sum(axis=-1, keepdims=True), EMPTY)
        return np.asarray(((a - e) * np.log(a / e)).sum(axis=-1))


def resampled_psi(expected: Counts, actual: Counts, *, seed: int = SEED) -> NDArray[np.float64]:
    """PSI of as many rows drawn from the actual ones with replacement, RESAMPLES times; the reference is fixed.

    Drawing rows is a multinomial draw of their bins. PSI is never negative, so a resample's is larger on
    average; that bias is taken off (Efron & Tibshirani, An Introduction to the Bootstrap, section 10.2).
    """
    rows = int(actual.sum())
    drawn = np.random.default_rng(seed).multinomial(rows, actual / rows, RESAMPLES)
    values = psi(expected, drawn)
    return np.asarray(np.maximum(values - (values.mean() - psi(expected, actual)), 0.0))


def _column(values: pd.Series) -> Numbers | Texts | str:
    from pandas.api.types import infer_dtype

    kind = infer_dtype(values, skipna=True)
    if kind in _NUMBERS:
        return Numbers.of(values)
    if kind in _TEXTS:
        return Texts.of(values)
    return f"holds {kind} values, and numbers and texts are counted"


def _floats(values: pd.Series) -> NDArray[np.float64]:
    import pandas as pd

    if values.dtype == np.float64:
        return np.asarray(values.to_numpy())
    numbers = pd.to_numeric(values, errors="coerce")
    return np.asarray(numbers.to_numpy(dtype=np.float64, na_value=np.nan))


def _frequencies(values: pd.Series) -> dict[str, int]:
    found: dict[str, int] = {}
    for value, n in values.value_counts(dropna=True).items():
        if n:
            found[str(value)] = found.get(str(value), 0) + int(n)
    return found


def _series(values: NDArray[np.float64]) -> pd.Series:
    import pandas as pd

    return pd.Series(values)
