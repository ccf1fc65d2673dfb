"""`reconcile new-model`: a model of a person's own rows, complete and valid, from a Copier template.

The template is `starter/model`; table.py reads the rows, starter.py puts the folder in its place.
"""

from __future__ import annotations

import configparser
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from reconciler.cli import console
from reconciler.cli.options import Task
from reconciler.cli.session import Session

if TYPE_CHECKING:
    from reconciler.core.desired import DesiredState
    from reconciler.core.documents import Gate

POINTER = "outs:\n- md5: {md5}\n  size: {size}\n  hash: md5\n  path: {name}\n"
NO_DATA = "outs:\n- path: {name}\n"
"""A pointer to nothing yet. DVC writes one itself where a file is declared and not made."""


def new_model(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As in churn or flight-delay.")],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE.csv", help="Rows to learn from.", show_default=False)
    ] = None,
    target: Annotated[
        str, typer.Option("--target", metavar="COLUMN", help="What to predict.", show_default=False)
    ] = "",
    task: Annotated[
        Task | None, typer.Option("--task", help="By the target's values, unless given.", show_default=False)
    ] = None,
    share: Annotated[
        float, typer.Option("--evaluation-share", help="Of the rows, held out by what is in them.")
    ] = 0.2,
    evaluation: Annotated[
        Path | None,
        typer.Option(
            "--evaluation",
            metavar="FILE.csv",
            help="Rows to measure on, instead of a share.",
            show_default=False,
        ),
    ] = None,
    owner: Annotated[
        str, typer.Option("--owner", help="Whom people ask. Git's user.name, unless given.", show_default=False)
    ] = "",
) -> None:
    """Write a new model: document, code, tests, data.

    Its rows are a CSV file of yours; without one, the data is left to you. Nothing is overwritten, committed or
    pushed. What to do next is printed.
    """
    from reconciler.cli.starter import check_name, fill_in, put_together, tell_problems, working_tree

    repository = Session.of(context).repository
    root, state = repository.root, working_tree(repository)
    place = root / "models" / name
    check_name(name, place, "new-model")
    _check_registered(name, state)
    if data is None and (target or evaluation):
        raise typer.BadParameter("--target and --evaluation say something about --data FILE.csv")
    if data is not None and not target:
        raise typer.BadParameter("--data needs --target COLUMN: what is to be predicted")
    if data is not None:
        _require_dvc(root)

    with put_together(root, place) as staged:
        rows = _rows(staged / "data", data, target, task, share, evaluation)
        environments = _in_order(state)
        fill_in(
            "model",
            staged,
            {
                "name": name,
                "module": name.replace("-", "_"),
                "owner": owner or repository.name or "nobody yet",
                "task": rows.task.value,
                "target": target or "target",
                "environments": environments if rows.columns else [],
                "known": environments,
                "baselines": rows.baselines,
                "columns": rows.columns,
                "contract": rows.contract,
                "source": data.name if data else "",
            },
        )
    to_push = _hand_to_dvc(root, name) if rows.columns else ""

    state = working_tree(repository)
    _tell(name, rows, state, to_push)
    raise typer.Exit(tell_problems(state, f"models/{name}"))


class _Rows(NamedTuple):
    """What came of the data. Without any, ``columns`` is empty."""

    task: Task
    columns: dict[str, dict[str, Any]]
    baselines: dict[str, float]
    contract: dict[str, Any]
    train: int = 0
    evaluation: int = 0
    said: tuple[str, ...] = ()


def _check_registered(name: str, state: DesiredState) -> None:
    from reconciler.core.errors import Terminal

    for other, source in state.models.items():
        if source.model.registered_name == name:
            what = f"models/{other} has registered versions under this name"
            raise Terminal(what, where=name, hint="choose another name")


def _require_dvc(root: Path) -> None:
    """Before anything is written. DVC is one of the extra `steps`."""
    from reconciler.core.errors import Terminal

    if importlib.util.find_spec("dvc") is None:
        raise Terminal("DVC is not installed, and it keeps the rows", hint="pip install 'trueup[steps]'")
    if not (root / ".dvc").is_dir():
        hint = "dvc init, and: dvc remote add --default NAME URL"
        raise Terminal("has no .dvc, which says where data is kept", where=str(root), hint=hint)


def _rows(
    folder: Path,
    data: Path | None,
    target: str,
    task: Task | None,
    share: float,
    evaluation: Path | None,
) -> _Rows:
    """Fill ``folder`` with train.csv, evaluation.csv and their pointers; without data, with pointers alone."""
    from reconciler.cli import table
    from reconciler.core.errors import Terminal

    folder.mkdir(parents=True)
    files = [folder / "train.csv", folder / "evaluation.csv"]
    if data is None:
        for file in files:
            file.with_name(f"{file.name}.dvc").write_text(NO_DATA.format(name=file.name))
        return _Rows(task or Task.binary, {}, {}, {})
    import pandas as pd

    whole = table.read(data)
    if evaluation is None and not 0 < share < 1:
        raise typer.BadParameter("a share is more than 0 and less than 1", param_hint="--evaluation-share")
    if len(whole) < table.FEWEST_ROWS:
        what = f"has {len(whole)} rows, which is too few to learn from some and measure on others"
        raise Terminal(what, where=str(data), hint=f"at least {table.FEWEST_ROWS} are needed")
    asked, task = task, table.check_target(whole, target, task, data)
    if evaluation is None:
        table.split(data, share, *files)
    else:
        held = table.read(evaluation)
        if list(held) != list(whole):
            different = sorted({*map(str, held)} ^ {*map(str, whole)})
            what = f"has other columns than {data.name}: {', '.join(different) or 'the same in another order'}"
            raise Terminal(what, where=str(evaluation))
        table.check_target(held, target, task, evaluation)
        for given, file in zip((data, evaluation), files, strict=True):
            shutil.copyfile(given, file)
    train, held = (pd.read_csv(file) for file in files)
    for frame, file in ((train, files[0]), (held, files[1])):
        if len(frame) < 2 or (frame is train and frame[target].nunique() < 2):
            what = f"of {len(whole)} rows {len(frame)} would be in {file.name}, which is too few"
            raise Terminal(what, where=str(data), hint="another --evaluation-share, or --evaluation FILE.csv")
        _point(file)
    everything = pd.concat([train, held], ignore_index=True)
    said = [f"task: {task}, by the values of {target}"] if asked is None else []
    said += table.remarks(train, held, target, task)
    baselines = table.baseline(train, held, target, task)
    contract = table.contract(train, held, target, task)
    return _Rows(task, table.columns(everything), baselines, contract, len(train), len(held), tuple(said))


def _point(file: Path) -> None:
    """Write the pointer that `dvc add` would write."""
    with file.open("rb") as content:
        md5 = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    text = POINTER.format(md5=md5, size=file.stat().st_size, name=file.name)
    file.with_name(f"{file.name}.dvc").write_text(text)


def _in_order(state: DesiredState) -> list[str]:
    """Every environment, each after those that it promotes from."""
    ordered: list[str] = []
    left = dict(sorted(state.environments.items()))
    while left:
        ready = [
            name
            for name, environment in left.items()
            if environment.promotes_from is None or not left.keys() & {*environment.promotes_from.environments}
        ]
        ordered += ready or left
        left = {name: environment for name, environment in left.items() if name not in ordered}
    return ordered


def _hand_to_dvc(root: Path, name: str) -> str:
    """Let DVC keep the rows, here and where the repository says. What is still to be done; empty if nothing."""
    pointers = [f"models/{name}/data/{file}.csv" for file in ("train", "evaluation")]
    _dvc(root, "add", "--quiet", *pointers)
    if not _default_remote(root):
        return f"dvc remote add --default NAME URL && dvc push {' '.join(f'{p}.dvc' for p in pointers)}"
    _dvc(root, "push", "--quiet", *(f"{pointer}.dvc" for pointer in pointers))
    return ""


def _default_remote(root: Path) -> str:
    config = configparser.ConfigParser(interpolation=None)
    config.read([root / ".dvc/config", root / ".dvc/config.local"])
    return config.get("core", "remote", fallback="")


def _dvc(root: Path, *arguments: str) -> None:
    from reconciler.core.errors import Terminal

    with console.working(f"dvc {arguments[0]}"):
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=root,
            env=os.environ | {"DVC_NO_ANALYTICS": "1"},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    if done.returncode:
        said = re.sub(r"^ERROR: ", "", (done.stderr.strip() or "no message").splitlines()[0])
        raise Terminal(
            f"the model is written, and its rows are not stored: {said}",
            where=f"dvc {arguments[0]}",
            hint=f"when that is mended: dvc {' '.join(arguments)}",
        )


def _tell(name: str, rows: _Rows, state: DesiredState, to_push: str) -> None:
    folder = f"models/{name}"
    says = f"wrote {folder}: model.yaml, src, tests"
    if rows.columns:
        says += f", and data: {rows.train} rows to learn from, {rows.evaluation} to measure on"
    console.write(f"{says}\n")
    for remark in rows.said:
        console.write(f"  {remark}\n")
    for (environment, why), gates in _hopeless(name, rows, state).items():
        console.write(f"  {environment} will block it: {', '.join(gates)} {why}\n")
    steps = [f"pytest {folder}"]
    if not rows.columns:
        pointed = " ".join(f"{folder}/data/{file}.csv" for file in ("train", "evaluation"))
        steps += [f"dvc add {pointed} && dvc push", f"name environments and target in {folder}/model.yaml"]
    steps += [to_push] if to_push else []
    steps += [
        f"git switch --create {name} && git add {folder} && git commit --message 'A model: {name}'",
        f"git push --set-upstream origin {name} && reconcile pr open",
    ]
    console.write("".join(["\nnext:\n", *(f"  {step}\n" for step in steps)]))


ON_ROWS = ("evaluate", "parity", "speed")
"""Measurements whose samples are rows of the evaluation data."""


def _hopeless(name: str, rows: _Rows, state: DesiredState) -> dict[tuple[str, str], list[str]]:
    """(environment, why) -> the gates that no version of this model can pass, as it is."""
    found: dict[tuple[str, str], list[str]] = {}
    if name not in state.models:
        return found
    source = state.models[name]
    model = source.model
    for environment in model.environments:
        policy = state.policies.get(state.environments[environment].policy)
        for gate in policy.gates if policy else ():
            measured = gate.measurement in ON_ROWS
            if measured and gate.when.meant(name, model.task, source.declared):
                for why in _cannot_pass(gate, rows, model.data.evaluation.slices):
                    found.setdefault((environment, why), []).append(gate.name)
    return found


def _cannot_pass(gate: Gate, rows: _Rows, slices: tuple[str, ...]) -> Iterator[str]:
    if gate.min_samples > rows.evaluation:
        yield f"needs {gate.min_samples} rows, and there are {rows.evaluation} to measure on"
    missing = [column for column in gate.slices if column not in slices]
    if missing:
        yield f"needs the slices of {', '.join(missing)}, and the model names none"
