"""Step `train`: run a model's own code on its rows and write an MLflow model. Nothing else is written.

With the model goes ``reference.json``: its training rows and predictions as counts (see reference.py).

The contract of model code, in ``models/MODEL/src``:

`train.py`
    ``train(frame, *, target, hyperparameters, seed, device, out) -> dict[str, float]``: learn from all rows,
    write whatever prediction needs to the folder ``out``, return metrics. An exception fails the training.

    Each of three more parameters is given if it is there. ``checkpoint``: it may be taken away and resumed
    (checkpoint.py). ``progress``: it says how far it is (progress.py). ``validation``: in a trial of a search,
    rows that ``frame`` has not, to measure what ``training.search.metric`` names; else None (trial.py).

    ``features(frame, *, target) -> list[str]`` (optional): the columns that prediction needs; without it,
    every column but the target.

    ``inputs(frame, *, target) -> DataFrame`` (optional, in place of ``features``): a few rows as prediction
    gets them. Their types are the model's signature, so whole numbers of which some may lack are floats here.
`predictor.py`
    ends in ``mlflow.models.set_model(X)`` with an ``mlflow.pyfunc.PythonModel`` that finds ``out`` at
    ``context.artifacts["weights"]`` and predicts from a DataFrame of raw rows a DataFrame with the column
    ``prediction`` and, for classification, one column ``probability_CLASS`` a class.
`requirements.txt` (optional)
    names of the packages that prediction imports; the versions that trained are recorded with the model.

The files of ``src`` travel with the model and import each other by name. https://mlflow.org/docs/latest/ml/model/models-from-code
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import logging
import math
import sys
import tempfile
import traceback
from collections.abc import Mapping
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from reconciler.core.errors import Retryable, Terminal
from workflows.model_files import load_model, use_wheels
from workflows.steps.checkpoint import Checkpoint, Interrupted
from workflows.steps.predict import as_signed
from workflows.steps.progress import Reporter
from workflows.steps.rows import read_rows, split_target
from workflows.steps.trials import latest_record, record_arguments

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.pyfunc import PyFuncModel

log = logging.getLogger(__name__)

TASKS = ("classification", "binary-classification", "regression")
"""Those of a Model, whose documents no step imports; a test compares."""


CHUNK = 50_000
"""Training rows that are predicted at once."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, required=True, help="the repository's files")
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with the training rows")
    parser.add_argument("--target", required=True)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--hyperparameters", type=json.loads, required=True, help="JSON object")
    record_arguments(parser)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder that outlives an attempt")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--out", type=Path, required=True, help="the model goes to OUT/model, metrics to OUT/metrics"
    )


def run(options: argparse.Namespace) -> None:
    checkpoint = Checkpoint(options.checkpoint)
    try:
        with checkpoint.listening():
            _train(options, checkpoint)
    except Interrupted as end:
        raise Retryable(str(end), where=f"models/{options.model}/src") from end
    except Terminal:
        checkpoint.clear()
        raise
    checkpoint.clear()


def _train(options: argparse.Namespace, checkpoint: Checkpoint) -> None:
    sys.dont_write_bytecode = True  # a __pycache__ would become part of the model's files
    frame = read_rows(options.data)
    split_target(frame, options.target)
    source = options.source / "models" / options.model / "src"
    code = load_code(source)
    hyperparameters = options.hyperparameters
    if (record := latest_record(options.search)) is not None:
        number = record.chosen.number
        hyperparameters = record.settings(number)
        log.info("trial %d was the best: %s", number, json.dumps(hyperparameters, sort_keys=True))

    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights"
        weights.mkdir()
        metrics = learn(
            code,
            frame,
            validation=None,
            target=options.target,
            hyperparameters=hyperparameters,
            seed=options.seed,
            device=options.device,
            out=weights,
            checkpoint=checkpoint,
            progress=Reporter("train"),
        )
        from workflows.environment import Installed, lock_text
        from workflows.steps.reference import Reference

        example, out = examples(code, frame, options.target), options.out / "model"
        model = save(source, weights=weights, example=example, task=options.task, out=out)
        schema = model.metadata.get_input_schema()  # type: ignore[no-untyped-call]
        inputs = as_signed(frame[list(example.columns)], schema)
        Reference.of(inputs, predicted(model, inputs), options.task).write(out)
        Installed.here(requirements(source), lock_text()).write(out)

    (options.out / "metrics").write_text(json.dumps(metrics, sort_keys=True))
    log.info("trained on %d rows: %s", len(frame), json.dumps(metrics, sort_keys=True))


def learn(
    code: ModuleType,
    frame: pd.DataFrame,
    *,
    validation: pd.DataFrame | None,
    checkpoint: Checkpoint,
    progress: Reporter,
    **given: Any,
) -> dict[str, float]:
    """Call the model's ``train`` and check the metrics that it returns. Terminal whatever it raises.

    It gets ``validation``, ``checkpoint`` and ``progress`` if it has parameters of these names.
    """
    source = Path(str(code.__file__)).parent
    extras = {"validation": validation, "checkpoint": checkpoint, "progress": progress}
    asked = inspect.signature(code.train).parameters.keys()
    if validation is not None and "validation" not in asked:
        raise Terminal(
            "train() has no parameter validation, and a search needs one",
            where=_place(source / "train.py"),
            hint="measure on those rows, and return what training.search.metric names",
        )
    saves = "checkpoint" in asked
    if saves and checkpoint.latest:
        log.info("resumes from a checkpoint")
    try:
        with checkpoint.saving() if saves else nullcontext():
            wanted = {name: extra for name, extra in extras.items() if name in asked}
            metrics: dict[str, float] = code.train(frame, **given, **wanted)
    except Exception as error:  # whatever model code raises, its author needs to read it
        traceback.print_exc(file=sys.stderr)
        raise Terminal(f"training failed: {type(error).__name__}: {error}", where=_place(source)) from error
    check_metrics(metrics, where=_place(source))
    return metrics


def load_code(source: Path) -> ModuleType:
    """The module ``train`` of a model's ``src``, which may import its neighbours."""
    if not (source / "train.py").is_file() or not (source / "predictor.py").is_file():
        raise Terminal(
            "needs train.py and predictor.py", where=_place(source), hint="see workflows/steps/train.py"
        )
    use_wheels(source)
    sys.path.insert(0, str(source))
    try:
        return importlib.import_module("train")
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        raise Terminal(
            f"does not import: {type(error).__name__}: {error}", where=_place(source / "train.py")
        ) from error


def examples(code: ModuleType, frame: pd.DataFrame, target: str) -> pd.DataFrame:
    """At most five rows with the columns that prediction needs, in the types in which it gets them."""
    if hasattr(code, "inputs"):
        rows: pd.DataFrame = code.inputs(frame, target=target)
    elif hasattr(code, "features"):
        rows = frame[code.features(frame, target=target)]
    else:
        rows = frame.drop(columns=[target])
    return rows.head(5)


def check_metrics(metrics: Mapping[str, Any], *, where: str) -> None:
    """Terminal where a metric is not a finite number: such a training has learned nothing."""
    wrong = [
        f"{name} is {value}"
        for name, value in metrics.items()
        if not isinstance(value, (int, float)) or not math.isfinite(value)
    ]
    if wrong:
        raise Terminal(
            f"training failed: {', '.join(wrong)}",
            where=where,
            hint="a smaller learning rate may keep it finite",
        )


def save(source: Path, *, weights: Path, example: pd.DataFrame, task: str, out: Path) -> PyFuncModel:
    """Write the MLflow model and try it on ``example``; Terminal if its answer breaks the contract."""
    import mlflow
    import pandas as pd

    mlflow.pyfunc.save_model(
        path=str(out),
        python_model=str(source / "predictor.py"),
        code_paths=[str(path) for path in sorted(source.iterdir()) if path.name != "__pycache__"],
        artifacts={"weights": str(weights)},
        input_example=example,
        pip_requirements=requirements(source),
    )
    try:
        model = load_model(out)
        answer = model.predict(example)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        raise Terminal(
            f"does not predict: {type(error).__name__}: {error}", where=_place(source / "predictor.py")
        ) from error
    columns = list(answer.columns) if isinstance(answer, pd.DataFrame) else []
    wanted = "prediction" in columns and (
        task == "regression" or any(c.startswith("probability_") for c in columns)
    )
    if not wanted:
        raise Terminal(
            f"predicts {columns or type(answer).__name__}",
            where=_place(source / "predictor.py"),
            hint="give a DataFrame with `prediction` and, for classification, `probability_CLASS` columns",
        )
    return model


def predicted(model: PyFuncModel, rows: pd.DataFrame) -> pd.Series | str:
    """What the model predicts for its own training rows, or why it does not: a training may leave out rows that
    prediction refuses."""
    import pandas as pd

    parts = []
    try:
        for start in range(0, len(rows), CHUNK):
            given = rows[start : start + CHUNK]
            answer: Any = model.predict(given)
            parts.append(answer["prediction"])
            if len(parts[-1]) != len(given):
                return f"the model gives {len(parts[-1])} predictions for {len(given)} training rows"
    except Exception as error:
        return f"the model does not predict every training row: {type(error).__name__}"
    return pd.concat(parts, ignore_index=True)


def requirements(source: Path) -> list[str]:
    """What prediction imports, at the versions installed here."""
    listed = source / "requirements.txt"
    names = listed.read_text().split() if listed.is_file() else []
    try:
        return [f"{name}=={version(name)}" for name in ("mlflow", "pandas", *names)]
    except PackageNotFoundError as error:
        raise Terminal(f"names {error.name}, which is not installed here", where=_place(listed)) from error


def _place(path: Path) -> str:
    """A path of model code as the repository has it, from ``models/`` on."""
    return "models/" + path.as_posix().rpartition("/models/")[2]
