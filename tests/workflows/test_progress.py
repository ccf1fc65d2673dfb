"""How often a training's progress is said."""

from __future__ import annotations

import logging

import pytest

from reconciler.core.progress import latest_progress
from workflows.steps.progress import Reporter


def test_many_short_epochs_do_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = iter(tenth / 10 for tenth in range(100))
    progress = Reporter("trial", trial=3, clock=lambda: next(now))
    for epoch in range(1, 36):
        progress(epoch=epoch, of=35, loss=1 / epoch)
    said = [line for line in caplog.messages if latest_progress(line)]
    assert said == [
        "progress: trial 3: epoch 1/35, loss 1, 0.1 s",
        "progress: trial 3: epoch 11/35, loss 0.09091, 1.1 s",
        "progress: trial 3: epoch 21/35, loss 0.04762, 2.1 s",
        "progress: trial 3: epoch 31/35, loss 0.03226, 3.1 s",
        "progress: trial 3: epoch 35/35, loss 0.02857, 3.5 s",
    ]
