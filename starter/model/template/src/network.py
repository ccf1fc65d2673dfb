"""The network; shared by training and prediction."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

WIDEST = 16
"""Numbers that stand for one value of a text column, at most."""


class Network(nn.Module):
    """An embedding for each text column, then two hidden layers of ``width``; (rows, outputs) out."""

    def __init__(self, columns: dict[str, Any], width: int, outputs: int) -> None:
        super().__init__()
        counts = [len(known) + 1 for known in columns["texts"].values()]
        widths = [min(WIDEST, 1 + count // 2) for count in counts]
        self.embeddings = nn.ModuleList(map(nn.Embedding, counts, widths))
        numbers = sum(1 + kept["gaps"] for kept in columns["numbers"].values())
        self.layers = nn.Sequential(
            nn.Linear(numbers + sum(widths), width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, outputs),
        )

    def forward(self, numbers: Tensor, places: Tensor) -> Tensor:
        embedded = [embedding(places[:, i]) for i, embedding in enumerate(self.embeddings)]
        outputs: Tensor = self.layers(torch.cat([numbers, *embedded], dim=1))
        return outputs
