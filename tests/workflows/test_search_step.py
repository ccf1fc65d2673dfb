"""Steps `search` and `trial`: what is drawn, what goes on, and that the order of the pods changes nothing."""

from __future__ import annotations

import json
import logging
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.errors import Terminal
from reconciler.core.search import Dimension, Halving, Objective, Search
from workflows.steps.search import plan
from workflows.steps.trial import held_out
from workflows.steps.trials import Record, Result, read_record, write_record

SPACE = {
    "rate": Dimension(low=0.001, high=0.1, log=True),
    "drop": Dimension(low=0, high=0.5, step=0.1),
    "width": Dimension(low=8, high=64, step=8, whole=True),
    "kind": Dimension(choice=("relu", "tanh", 3, True)),
}
LOSS = Objective(name="loss", goal="min")


def search(**changes: Any) -> Search:
    asked = {"method": "random", "trials": 12, "space": SPACE, "metric": LOSS}
    return Search.model_validate({**asked, **changes})


def halving(trials: int = 9, **changes: Any) -> Search:
    given_out = Halving(resource="epochs", min=1, eta=3)
    return search(method="successive-halving", trials=trials, halving=given_out, **changes)


def result(number: int, value: float | None) -> Result:
    if value is None:
        return Result(trial=number, status="FAILED", message="the loss is nan")
    return Result(trial=number, status="FINISHED", metrics={"loss": value})


# --- what is drawn ----------------------------------------------------------------------------------------


def test_the_same_seed_draws_the_same_trials_and_more_trials_begin_with_them() -> None:
    drawn = plan(search(), {}, 7)
    assert plan(search(), {}, 7) == drawn
    assert plan(search(trials=20), {}, 7).trials[:12] == drawn.trials
    assert plan(search(), {}, 8) != drawn


def test_what_is_drawn_is_in_the_space_and_of_its_kind() -> None:
    for trial in plan(search(trials=100), {}, 0).trials:
        values = trial.hyperparameters
        assert isinstance(values["rate"], float)
        assert 0.001 <= values["rate"] <= 0.1
        assert values["drop"] in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
        assert isinstance(values["width"], int)
        assert values["width"] in range(8, 65, 8)
        assert (type(values["kind"]), values["kind"]) in [(str, "relu"), (str, "tanh"), (int, 3), (bool, True)]


def test_a_grid_is_every_point_the_last_name_fastest() -> None:
    space = {"b": Dimension(choice=("x", "y")), "a": Dimension(low=1, high=3, step=1, whole=True)}
    points = [
        trial.hyperparameters for trial in plan(search(method="grid", trials=None, space=space), {}, 0).trials
    ]
    assert points == [{"a": a, "b": b} for a in (1, 2, 3) for b in ("x", "y")]


def test_a_grid_of_fractions_has_no_rounding_errors_in_it() -> None:
    space = {"drop": Dimension(low=0.1, high=0.5, step=0.1)}
    points = plan(search(method="grid", trials=None, space=space), {}, 0).trials
    assert [trial.hyperparameters["drop"] for trial in points] == [0.1, 0.2, 0.3, 0.4, 0.5]


# --- what goes on -----------------------------------------------------------------------------------------


def test_the_best_third_goes_on_with_three_times_as_much() -> None:
    record = plan(halving(), {"epochs": 9}, 0)
    assert record.rungs == (1, 3, 9)
    assert record.settings(4, stage=0)["epochs"] == 1
    record = record.after(tuple(result(number, 1 / (number + 1)) for number in range(9)))
    assert record.stages[-1] == (6, 7, 8)
    assert record.settings(6, stage=1)["epochs"] == 3
    record = record.after(tuple(result(number, float(number)) for number in (6, 7, 8)))
    assert record.stages[-1] == (6,)
    record = record.after((result(6, 5.0),))
    assert (record.chosen.number, record.value(record.chosen), len(record.stages)) == (6, 5.0, 3)
    assert record.settings(6)["epochs"] == 9
    assert [record.status(trial) for trial in record.trials] == ["KILLED"] * 6 + ["FINISHED"] + ["KILLED"] * 2


@pytest.mark.parametrize(("goal", "best"), [("min", 2), ("max", 0)])
def test_the_goal_says_which_is_best_and_the_first_of_equals_is_taken(goal: str, best: int) -> None:
    record = plan(search(trials=4, metric={"name": "loss", "goal": goal}), {}, 0)
    values = [0.5, 0.2, 0.1, 0.1] if goal == "min" else [0.5, 0.5, 0.1, 0.1]
    record = record.after(tuple(result(number, value) for number, value in enumerate(values)))
    assert record.chosen.number == best


VALUES = st.lists(st.none() | st.integers(0, 5).map(float), min_size=9, max_size=9)


@given(VALUES, VALUES, VALUES, st.randoms())
def test_the_order_in_which_trials_end_changes_nothing(
    first: list[float | None], second: list[float | None], third: list[float | None], order: random.Random
) -> None:
    def told(shuffled: bool) -> Record | str:
        record = plan(halving(space={"width": SPACE["width"]}), {"epochs": 9}, 3)
        for values in (first, second, third):
            results = [result(number, values[number]) for number in record.stages[-1]]
            if shuffled:
                order.shuffle(results)
            try:
                record = record.after(tuple(results))
            except Terminal as error:
                return str(error)
        return record

    whole = told(shuffled=False)
    assert told(shuffled=True) == whole
    if isinstance(whole, Record):
        assert len(whole.stages) == 3
        assert all(stage for stage in whole.stages)
        assert whole.chosen.last.status == "FINISHED"


def test_failed_trials_are_passed_over_and_one_without_a_word_has_failed() -> None:
    record = plan(halving(), {"epochs": 9}, 0)
    record = record.after((result(0, None), result(1, 0.3), result(2, 0.2)))
    assert record.stages[-1] == (1, 2)  # of three places, as many as there are
    assert record.trials[5].last.message.startswith("ended without a word")
    # all of a stage failed: the next is for the best that there are
    record = record.after((result(1, 0.1), result(2, None)))
    assert record.stages[-1] == (1,)


def test_where_all_trials_fail_so_does_the_search_and_says_why(tmp_path: Path, step, capsys) -> None:
    record = plan(search(trials=3), {}, 0)
    write_record(record, tmp_path / "search")
    assert read_record(tmp_path / "search") == record
    results = [result(number, None).model_dump(mode="json") for number in (2, 0)]
    options = {
        "search": search(trials=3).model_dump_json(),
        "hyperparameters": "{}",
        "seed": 0,
        "record": tmp_path / "search",
        "results": json.dumps(results),
        "out": tmp_path / "out",
    }
    assert step("search", **options) == 1
    said = capsys.readouterr().err
    assert "all 3 trials failed: trial 0: the loss is nan; trial 1: ended without a word" in said
    assert not (tmp_path / "out").exists()


# --- one trial --------------------------------------------------------------------------------------------

TRAIN = """
import json
def train(frame, *, target, hyperparameters, seed, device, out, validation, checkpoint, progress):
    rows = [sorted(part["pixel_20"].index) == list(range(len(part))) for part in (frame, validation)]
    progress(epoch=1, of=hyperparameters["epochs"])
    if hyperparameters["width"] == 1:
        raise MemoryError("too wide")
    if hyperparameters["width"] == 3:
        return {"accuracy": 1.0}
    return {"loss": float(hyperparameters["width"]), "learned": len(frame), "held-out": len(validation)}
"""


@pytest.fixture
def trial(source: Path, rows: dict[str, Path], tmp_path: Path, step):
    """``trial(NUMBER)`` of three with widths 1, 2 and 3; ``code`` in the place of its train.py."""
    space = {"width": Dimension(choice=(1, 2, 3))}
    record = plan(search(method="grid", trials=None, space=space), {"epochs": 4}, 0)
    write_record(record, tmp_path / "search")

    def options(number: int, code: str | None) -> dict[str, object]:
        root = tmp_path / "repository"
        src = root / "models" / "tried" / "src"
        if not src.exists():
            src.mkdir(parents=True)
            for file in (source / "models/centroids/src").iterdir():
                (src / file.name).write_text(file.read_text()) if file.is_file() else None
        (src / "train.py").write_text(TRAIN if code is None else code)
        return {
            "source": root,
            "model": "tried",
            "data": rows["train"],
            "target": "label",
            "search": tmp_path / "search",
            "trial": number,
            "seed": 0,
            "checkpoint": tmp_path / "checkpoint",
            "out": tmp_path / "out",
        }

    def run(number: int, code: str | None = None) -> Result:
        assert step("trial", **options(number, code)) == 0
        return Result.model_validate_json((tmp_path / "out" / "result").read_text())

    run.options = options  # type: ignore[attr-defined]
    return run


def test_a_trial_learns_from_part_of_the_rows_and_measures_on_the_rest(trial, rows, caplog) -> None:
    caplog.set_level(logging.INFO)
    total = len(pd.read_csv(rows["train"] / "train.csv"))
    found = trial(1)
    assert (found.trial, found.status, found.message) == (1, "FINISHED", "")
    assert found.metrics == {"loss": 2.0, "learned": total - round(total / 5), "held-out": round(total / 5)}
    assert found.started <= found.finished
    assert "progress: trial 1: epoch 1/4, " in caplog.text


def test_a_trial_that_fails_says_so_and_the_search_goes_on(trial) -> None:
    found = trial(0)
    assert (found.status, found.message) == ("FAILED", "training failed: MemoryError: too wide")
    assert trial(2).message == "train() returned accuracy, and not loss, which training.search.metric names"
    plain = TRAIN.replace("validation, checkpoint", "checkpoint")
    assert trial(1, plain).message == "train() has no parameter validation, and a search needs one"


def test_every_trial_holds_out_the_same_rows_and_each_row_is_on_one_side() -> None:
    frame = pd.DataFrame({"x": range(50)})
    training, validation = held_out(frame, 10, seed=4)
    assert sorted([*training["x"], *validation["x"]]) == list(range(50))
    assert len(validation) == 10
    again = held_out(frame, 10, seed=4)
    assert all(one.equals(other) for one, other in zip(again, (training, validation), strict=True))
    assert not held_out(frame, 10, seed=5)[1].equals(validation)
    with pytest.raises(Terminal, match="has 1 rows, too few"):
        held_out(frame.head(1), 1, seed=0)


SAVES = """
import time
def train(frame, *, hyperparameters, validation, checkpoint, progress, **_):
    first = int((checkpoint.latest / "epoch").read_text()) + 1 if checkpoint.latest else 1
    for epoch in range(first, 5):
        progress(epoch=epoch, of=4)
        while first == 1 and epoch == 2:
            checkpoint.save(lambda folder: (folder / "epoch").write_text("2"))
            time.sleep(0.01)
        checkpoint.save(lambda folder: (folder / "epoch").write_text(str(epoch)))
    return {"loss": float(first)}
"""


def test_a_trial_that_is_told_to_end_is_resumed(trial, tmp_path: Path) -> None:
    options = trial.options(1, SAVES)
    command = [
        *(sys.executable, "-m", "workflows.steps.main", "trial"),
        *(f"--{name}={value}" for name, value in options.items()),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        assert any("epoch 1/4" in line for line in first.stderr)
        while not (tmp_path / "checkpoint/trial-1-0/latest/epoch").exists():
            assert first.poll() is None
        first.send_signal(signal.SIGTERM)
        _, said = first.communicate(timeout=60)
    assert first.returncode == 75, said
    assert not (tmp_path / "out").exists()
    assert trial(1, SAVES).metrics["loss"] > 1  # where it went on
    assert not list((tmp_path / "checkpoint").iterdir())
