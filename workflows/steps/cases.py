"""The rows that tests of behaviour ask about, and how they are changed. The step `behaviour` calls it.

A case is one row. What a test draws and adds is fixed by its seeds, so that the same data give the same cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reconciler.core.behaviour import Change, Direction, Invariance, Minimum, Rows
from reconciler.core.errors import Terminal

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Test = Invariance | Direction | Minimum


class Cases(NamedTuple):
    """One test's rows before and after its change, with the same index: the place in the data, or among the
    literal rows. Of an invariance and a direction, rows that the change leaves as they are are no cases."""

    before: pd.DataFrame
    after: pd.DataFrame


def cases(test: Test, features: pd.DataFrame, target: pd.Series) -> Cases:
    """The cases of one test. Terminal where it names a column that the data do not have."""
    before = chosen(test.rows, features, target, where=test.name)
    after = changed(before, test.change, seed=test.seed, where=test.name)
    if not isinstance(test, Minimum):
        touched = ~(after.eq(before) | (after.isna() & before.isna())).all(axis=1)
        before, after = before[touched], after[touched]
    return Cases(before, after)


def chosen(rows: Rows, features: pd.DataFrame, target: pd.Series, *, where: str) -> pd.DataFrame:
    """The rows that a test is about, sorted by their place."""
    if rows.literal:
        return _literal(rows, features, where=where)
    kept = np.ones(len(features), dtype=bool)
    for name, values in rows.where.items():
        if name != target.name:
            _known([name], features, where=where)
        kept &= (target if name == target.name else features[name]).isin(values).to_numpy()
    places = np.flatnonzero(kept)
    assert rows.sample is not None
    if len(places) > rows.sample:
        places = np.sort(np.random.default_rng(rows.seed).choice(places, rows.sample, replace=False))
    return features.iloc[places]


def changed(rows: pd.DataFrame, changes: Sequence[Change], *, seed: int, where: str) -> pd.DataFrame:
    """A copy of the rows with every change made, one after the other. Whole numbers stay whole."""
    random, rows = np.random.default_rng(seed), rows.copy()
    for change in changes:
        for name in _columns(change, rows, where=where):
            rows[name] = _changed(rows[name], change, random, where=f"{where}: {name}")
    return rows


def _columns(change: Change, rows: pd.DataFrame, *, where: str) -> Iterator[str]:
    for pattern in change.columns:
        found = [name for name in rows.columns if fnmatchcase(name, pattern)]
        if not found:
            _known([pattern], rows, where=where)
        yield from found


def _changed(
    values: pd.Series, change: Change, random: np.random.Generator, *, where: str
) -> pd.Series | NDArray[Any]:
    import pandas as pd

    if change.missing:
        return pd.Series(None, index=values.index, dtype="float64" if values.dtype.kind in "iuf" else object)
    if change.set is not None:
        return _as_before(pd.Series(change.set, index=values.index), values)
    if change.swap:
        others = {value: [other for other in change.swap if other != value] for value in change.swap}
        picked = random.integers(0, len(change.swap) - 1, len(values))
        swapped = [
            others[value][pick] if value in others else value
            for value, pick in zip(values.tolist(), picked, strict=True)
        ]
        return _as_before(pd.Series(swapped, index=values.index), values)
    if values.dtype.kind not in "iuf":
        raise Terminal(
            f"holds {values.dtype} and no numbers, so nothing is added or scaled", where=f"behaviour: {where}"
        )
    numbers = values.to_numpy(dtype=np.float64)
    whole = values.dtype.kind in "iu"
    if change.add is not None:
        numbers = numbers + change.add
    elif change.scale is not None:
        numbers = numbers * change.scale
    elif change.noise is not None and whole:
        numbers = numbers + random.integers(-int(change.noise), int(change.noise) + 1, len(numbers))
    elif change.noise is not None:
        numbers = numbers + random.uniform(-change.noise, change.noise, len(numbers))
    numbers = np.clip(numbers, change.at_least, change.at_most)
    return np.rint(numbers).astype(values.dtype) if whole else numbers


def _literal(rows: Rows, features: pd.DataFrame, *, where: str) -> pd.DataFrame:
    import pandas as pd

    _known(sorted({name for row in rows.literal for name in row}), features, where=where)
    made = [{name: row.get(name, rows.fill) for name in features.columns} for row in rows.literal]
    frame = pd.DataFrame(made, columns=features.columns)
    return frame.assign(**{name: _as_before(frame[name], features[name]) for name in features.columns})


def _as_before(values: pd.Series, like: pd.Series) -> pd.Series:
    """In the column's own type where that loses nothing; else as they are, for the model to refuse."""
    try:
        cast = values.astype(like.dtype)
    except (ValueError, TypeError, OverflowError):
        return values
    same = cast.eq(values) | (cast.isna() & values.isna())
    return cast if bool(same.all()) else values


def _known(names: Sequence[str], features: pd.DataFrame, *, where: str) -> None:
    unknown = [name for name in names if name not in features.columns]
    if unknown:
        shown = ", ".join(map(str, features.columns[:10]))
        raise Terminal(
            f"the data has no column {', '.join(unknown)}",
            where=f"behaviour: {where}",
            hint=f"its first columns are {shown}",
        )
