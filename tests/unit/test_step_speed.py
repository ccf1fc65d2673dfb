"""What the step `speed` makes of the times of two versions, and the wheels that a version brings."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from reconciler.core.errors import Terminal
from workflows.model_files import use_wheels
from workflows.steps.speed import CALLS, MIB, ROUNDS, Times, measure
from workflows.steps.timed import Turn

RECORDS = 1000


def times(busy: float, waiting: float = 0.0, *, seed: int = 0) -> Times:
    """A version whose calls keep the processor busy for about so many milliseconds, and wait for others."""
    random = np.random.default_rng(seed)

    def turn(calls: int, factor: float) -> Turn:
        spent = [factor * busy * float(random.uniform(0.95, 1.05)) for _ in range(calls)]
        return Turn([each + waiting for each in spent], spent, 300 * MIB)

    return Times([turn(CALLS, 1) for _ in range(ROUNDS)], [turn(1, 4) for _ in range(ROUNDS)])


def test_a_ratio_is_of_the_processors_time() -> None:
    found = measure(times(6.0, waiting=30.0), times(5.0, seed=1), RECORDS)
    ratio, elapsed = (found[name].overall.candidate for name in ("ratio", "elapsed-ratio"))
    assert ratio.value == pytest.approx(1.2, rel=0.03)
    assert ratio.low < ratio.value < ratio.high
    assert ratio.n == RECORDS
    assert elapsed.value == pytest.approx(7.2, rel=0.03)


def test_a_few_disturbed_rounds_move_nothing() -> None:
    theirs, ours = times(5.0, seed=1), times(5.0)
    for place in range(ROUNDS // 3):
        ours.calls[place].busy[:] = [500.0] * CALLS
    assert measure(ours, theirs, RECORDS)["ratio"].overall.candidate.value == pytest.approx(1.0, rel=0.05)


def test_both_versions_have_their_own_numbers() -> None:
    found = measure(times(5.0), times(10.0, seed=1), RECORDS)
    speed = found["rows-per-second"].overall
    assert speed.candidate.value == pytest.approx(50_000, rel=0.05)  # 1,000 records in 20 milliseconds
    assert speed.champion.value == pytest.approx(25_000, rel=0.05)
    assert found["p50-ms"].overall.champion.value == pytest.approx(10, rel=0.05)
    assert found["memory-mib"].overall.candidate.value == 300


@pytest.mark.parametrize(
    ("champion", "note"),
    [(None, "there is no champion"), ("does not predict: no module", "does not predict: no module")],
)
def test_without_times_of_a_champion_no_ratio_is_made_up(champion, note) -> None:
    found = measure(times(5.0), champion, RECORDS)
    for name in ("ratio", "batch-ratio", "elapsed-ratio"):
        assert (found[name].overall.candidate.value, found[name].overall.candidate.note) == (None, note)
    assert found["p95-ms"].overall.candidate.usable
    compared = found["p95-ms"].overall.champion
    assert compared is None if champion is None else compared.note == note


def test_what_a_model_imports_comes_from_its_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels/blot-1.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("blot.py", "VERSION = '1.1'\n")
    use_wheels(tmp_path)
    import blot

    assert blot.VERSION == "1.1"
    monkeypatch.delitem(sys.modules, "blot")


def test_a_broken_wheel_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    use_wheels(tmp_path)  # a model without wheels
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/blot-1.1-py3-none-any.whl").write_text("not an archive")
    with pytest.raises(Terminal, match=r"wheels/blot-1\.1-py3-none-any\.whl: is not a wheel"):
        use_wheels(tmp_path)
