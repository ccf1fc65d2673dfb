"""Rows as steps pass them on: a folder that holds one CSV or Parquet file, or one folder of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.core.errors import Terminal

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 50_000
"""Rows."""


def read_rows(folder: Path) -> pd.DataFrame:
    """The one table in ``folder``: a file, or a folder's files below each other in the order of their paths.

    The rows are numbered anew and the columns are in the first file's order. Terminal if a file is not a
    readable table or has no rows, or if the files do not have the same columns.
    """
    import pandas as pd

    paths = files(folder)
    frames = [_read(folder / path, path) for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        _same_columns(path, frame, paths[0], frames[0])
    return frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)


def files(folder: Path) -> list[str]:
    """The paths below ``folder`` of the one table's files, in the order of its rows."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    if len(found) != 1:
        raise Terminal(f"holds {len(found)} files, not one", where=str(folder))
    (whole,) = found
    if not whole.is_dir():
        return [whole.name]
    # As text, not part by part: it is the order of the listing, whatever the names of folders.
    paths = sorted(path.relative_to(folder).as_posix() for path in whole.rglob("*") if not path.is_dir())
    if not paths:
        raise Terminal("holds no file", where=whole.name)
    return paths


def read_chunks(
    folder: Path, path: str, texts: Mapping[str, type] | type | None = None
) -> Iterator[pd.DataFrame]:
    """One file's rows, CHUNK at a time, numbered from 0. Terminal if it is no readable table, or has no rows.

    ``texts``: columns of a CSV file that are read as text (column -> ``str``), or ``str`` for all; of Parquet
    each column has the type that the file says.
    """
    import pandas as pd

    number = 0
    try:
        if (folder / path).suffix == ".parquet":
            from pyarrow.parquet import ParquetFile

            with ParquetFile(folder / path) as file:
                for batch in file.iter_batches(CHUNK):
                    frame = batch.to_pandas()
                    yield frame.set_axis(pd.RangeIndex(number, number + len(frame)))
                    number += len(frame)
        elif (folder / path).suffix == ".csv":
            with pd.read_csv(folder / path, chunksize=CHUNK, dtype=texts) as chunks:
                for frame in chunks:
                    yield frame
                    number += len(frame)
        else:
            raise _no_table(path)
    except (ValueError, OSError) as error:
        raise Terminal(f"is not readable: {error}", where=path) from error
    if not number:
        raise Terminal("has no rows", where=path)


def _read(path: Path, name: str) -> pd.DataFrame:
    import pandas as pd

    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    if path.suffix not in readers:
        raise _no_table(name)
    try:
        frame: pd.DataFrame = readers[path.suffix](path)
    except (ValueError, OSError) as error:
        raise Terminal(f"is not readable: {error}", where=name) from error
    if frame.empty:
        raise Terminal("has no rows", where=name)
    return frame


def _no_table(name: str) -> Terminal:
    return Terminal("is not a table", where=name, hint="give one of .csv, .parquet")


def _same_columns(name: str, frame: pd.DataFrame, first: str, expected: pd.DataFrame) -> None:
    ours, theirs = set(map(str, frame.columns)), set(map(str, expected.columns))
    said = [
        f"{word} {', '.join(map(repr, sorted(columns)))}"
        for word, columns in (("lacks", theirs - ours), ("has besides", ours - theirs))
        if columns
    ]
    if said:
        raise Terminal(
            f"{' and '.join(said)}, compared with {first}",
            where=name,
            hint="every file of a folder needs the same columns",
        )


def split_target(frame: pd.DataFrame, target: str) -> tuple[pd.DataFrame, pd.Series]:
    """Features and target. Terminal if there is no such column, or a row of it is empty."""
    if target not in frame.columns:
        columns = ", ".join(map(str, frame.columns[-10:]))
        raise Terminal(f"the data has no target column {target!r}", hint=f"its last columns are {columns}")
    missing = int(frame[target].isna().sum())
    if missing:
        raise Terminal(f"{missing} of {len(frame)} rows have no {target!r}", hint="repair the data")
    return frame.drop(columns=[target]), frame[target]
