"""The network and how a row becomes its input; shared by training and prediction."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

PIXELS = [f"pixel_{i:02d}" for i in range(64)]
INK = 16.0
"""The scans' largest pixel value."""


class Network(nn.Module):
    """Two 3x3 convolutions (``channels`` and twice as many), one pooling, one linear layer.

    (rows, 1, 8, 8) in, (rows, classes) logits out.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * channels * 16, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


def images(frame: pd.DataFrame) -> Tensor:
    """Pixel columns to images, (rows, 1, 8, 8) in [0, 1]. Refuses missing values."""
    pixels = frame[PIXELS].to_numpy(dtype=np.float32)
    if not np.isfinite(pixels).all():
        raise ValueError("a pixel has no value; every pixel needs a number from 0 to 16")
    return torch.from_numpy(pixels / INK).reshape(-1, 1, 8, 8)
