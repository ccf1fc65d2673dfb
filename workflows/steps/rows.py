"""Rows as steps pass them on: a folder that holds one CSV or Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.core.errors import Terminal

if TYPE_CHECKING:
    import pandas as pd


def read_rows(folder: Path) -> pd.DataFrame:
    """The one table in ``folder``. Terminal if it is not one readable table, or has no rows."""
    import pandas as pd

    files = [path for path in sorted(folder.iterdir()) if path.is_file()] if folder.is_dir() else []
    if len(files) != 1:
        raise Terminal(f"holds {len(files)} files, not one", where=str(folder))
    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    if files[0].suffix not in readers:
        raise Terminal("is not a table", where=files[0].name, hint=f"give one of {', '.join(readers)}")
    try:
        frame: pd.DataFrame = readers[files[0].suffix](files[0])
    except (ValueError, OSError) as error:
        raise Terminal(f"is not readable: {error}", where=files[0].name) from error
    if frame.empty:
        raise Terminal("has no rows", where=files[0].name)
    return frame


def split_target(frame: pd.DataFrame, target: str) -> tuple[pd.DataFrame, pd.Series]:
    """Features and target. Terminal if there is no such column, or a row of it is empty."""
    if target not in frame.columns:
        columns = ", ".join(map(str, frame.columns[-10:]))
        raise Terminal(f"the data has no target column {target!r}", hint=f"its last columns are {columns}")
    missing = int(frame[target].isna().sum())
    if missing:
        raise Terminal(f"{missing} of {len(frame)} rows have no {target!r}", hint="repair the data")
    return frame.drop(columns=[target]), frame[target]
