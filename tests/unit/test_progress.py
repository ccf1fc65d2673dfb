"""The line of progress: what is written is read again, and anything else in a log is passed over."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.progress import Progress, latest_progress

NUMBERS = st.integers(0, 10**9 - 1)


@given(
    st.builds(
        Progress,
        step=st.from_regex(r"[a-z][-a-z0-9]{0,20}", fullmatch=True),
        trial=st.none() | NUMBERS,
        epoch=NUMBERS,
        of=st.none() | NUMBERS,
        loss=st.none() | st.floats(allow_nan=False).map(lambda value: float(f"{value:.4g}")),
        elapsed=st.integers(0, 10**9).map(lambda tenths: tenths / 10),
    )
)
def test_a_line_is_read_as_it_was_written(progress: Progress) -> None:
    assert latest_progress(progress.line) == progress
    assert latest_progress(f"before\n{progress.line}\nafter") == progress


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (
            Progress(step="train", epoch=3, of=6, loss=0.12131, elapsed=14.23),
            "train: epoch 3/6, loss 0.1213, 14.2 s",
        ),
        (Progress(step="trial", trial=7, epoch=3, elapsed=0.04), "trial 7: epoch 3, 0.0 s"),
    ],
)
def test_it_reads_well(progress: Progress, said: str) -> None:
    assert str(progress) == said
    assert progress.line == f"progress: {said}"


def test_the_last_line_counts() -> None:
    log = """\
progress: train: epoch 1/6, loss 2.1, 0.4 s
resumes from a checkpoint
progress: train: epoch 2/6, loss nan, 1.4 s
my progress: train: epoch 3/6, 9.9 s
progress: train: epoch 3/6, loss 1-1, 2.0 s
progress: train: epoch three of six
progress: train: epoch 4/6, loss 0.1, 2"""
    last = latest_progress(log)
    assert last is not None
    assert (last.epoch, last.of, last.elapsed) == (2, 6, 1.4)
    assert last.loss is not None
    assert math.isnan(last.loss)


@pytest.mark.parametrize("log", ["", "\n", "progress: ", "epoch 1/6: loss 2.1", "progress: " * 1000])
def test_a_log_without_progress(log: str) -> None:
    assert latest_progress(log) is None
