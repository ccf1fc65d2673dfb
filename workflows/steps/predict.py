"""Predictions of one model folder, made in a process of its own.

Two versions of a model bring modules of the same names (``network``), and Python keeps one of a name: scored
in one process, the champion would run the candidate's code. The steps `evaluate` and `parity` call
:func:`predict`; the process itself is ``python -m workflows.steps.predict MODEL ROWS OUT``, with Parquet files.
The step `behaviour`, which asks one version alone, calls :func:`load`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.core.errors import Terminal
from workflows.model_files import load_model

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.types import Schema


def predict(model: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """What the model in this folder predicts for raw rows, in their order.

    Terminal, with the last line that the process wrote, where it fails or gives another number of rows.
    """
    import pandas as pd

    with tempfile.TemporaryDirectory() as folder:
        given, answer = Path(folder) / "rows.parquet", Path(folder) / "predictions.parquet"
        rows.to_parquet(given)
        command = [sys.executable, "-P", "-m", "workflows.steps.predict", str(model), str(given), str(answer)]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.stderr.write(done.stderr)
            said = done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"]
            raise Terminal(f"does not predict: {said[-1]}", where=model.name)
        predictions: pd.DataFrame = pd.read_parquet(answer)
    if len(predictions) != len(rows) or "prediction" not in predictions.columns:
        raise Terminal(
            f"gave {len(predictions)} rows of {', '.join(predictions.columns)} for {len(rows)} rows",
            where=model.name,
        )
    return predictions


def main(model: str, rows: str, out: str) -> None:
    """The body of the process."""
    import pandas as pd

    load(Path(model))(pd.read_parquet(rows)).to_parquet(out)


def load(model: Path) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """What the model in this folder answers to raw rows, in this process: for one model, in one process."""
    import pandas as pd

    sys.dont_write_bytecode = True
    loaded = load_model(model)
    schema = loaded.metadata.get_input_schema()  # type: ignore[no-untyped-call]

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        given = loaded.predict(as_signed(rows, schema))
        if not isinstance(given, pd.DataFrame):
            raise TypeError(f"predicts {type(given).__name__}, not a DataFrame")
        return given

    return answer


def as_signed(rows: pd.DataFrame, schema: Schema | None) -> pd.DataFrame:
    """Rows of a file in the signature's types, where only the file made them others.

    A column without a gap or a fraction is read as whole numbers, and one with digits alone as numbers; the
    server takes JSON the same way, and MLflow refuses both.
    """
    if schema is None or not schema.has_input_names():
        return rows
    types = {str(column.name): getattr(column.type, "name", "") for column in schema.inputs}
    for name, values in rows.items():
        wanted = types.get(str(name))
        if wanted == "double" and values.dtype.kind in "iu":
            rows = rows.assign(**{str(name): values.astype("float64")})
        elif wanted == "string" and values.dtype.kind in "iuf":
            rows = rows.assign(**{str(name): values.astype(str).where(values.notna(), None)})
    return rows


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:
        traceback.print_exc()
        sys.exit(f"{type(error).__name__}: {error}".splitlines()[0])
