"""Trains the network. The step `train` calls it; its contract is in trueup's workflows/steps/train.py."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import answer
import columns
import pandas as pd
import torch
from columns import inputs  # noqa: F401 - part of the contract: what the model's signature is made of
from network import Network

HYPERPARAMETERS = {"width": 64, "epochs": 20, "batchSize": 64, "learningRate": 0.003}
"""What may be set, and what holds where it is not."""
FORGOTTEN = 0.02
"""Share of text values that training takes for unknown, so that it learns what to do with those."""


def train(
    frame: pd.DataFrame,
    *,
    target: str,
    hyperparameters: dict[str, Any],
    seed: int,
    device: str,
    out: Path,
    checkpoint: Any,
    progress: Any,
) -> dict[str, float]:
    """Write network.pt and network.json to ``out``; metrics on the training rows.

    The same arguments give the same weights on the same kind of processor, interrupted between epochs or not.
    Raises ValueError for what cannot be learned from, FloatingPointError where the loss stops being a number.
    """
    unknown = sorted(hyperparameters.keys() - HYPERPARAMETERS.keys())
    if unknown:
        raise ValueError(f"unknown hyperparameter {', '.join(unknown)}; known: {', '.join(HYPERPARAMETERS)}")
    settings = HYPERPARAMETERS | hyperparameters

    torch.set_num_threads(1)  # sums in another order give other weights
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)

    shape = {
        "columns": columns.learn(frame, target=target),
        "answer": answer.learn(frame[target]),
        "width": settings["width"],
    }
    numbers, places = (part.to(device) for part in columns.encode(frame, shape["columns"]))
    truth = answer.encode(frame[target], shape["answer"]).to(device)
    network = Network(shape["columns"], settings["width"], answer.outputs(shape["answer"])).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings["learningRate"])

    first = 1
    if checkpoint.latest:
        kept = torch.load(checkpoint.latest / "epoch.pt", map_location=device, weights_only=True)
        network.load_state_dict(kept["network"])
        optimizer.load_state_dict(kept["optimizer"])
        torch.set_rng_state(kept["random"].cpu())
        first = kept["epoch"] + 1

    for epoch in range(first, settings["epochs"] + 1):
        total = 0.0
        for batch in torch.randperm(len(truth)).to(device).split(settings["batchSize"]):
            kept_values = (torch.rand(places[batch].shape) >= FORGOTTEN).to(device)
            loss = answer.loss(network(numbers[batch], places[batch] * kept_values), truth[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        mean = total / len(truth)
        progress(epoch=epoch, of=settings["epochs"], loss=mean)
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"the loss is {mean} in epoch {epoch}; "
                f"a learningRate below {settings['learningRate']} may keep it finite"
            )
        state = {
            "epoch": epoch,
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        checkpoint.save(lambda folder, state=state: torch.save(state, folder / "epoch.pt"))

    network.eval()
    with torch.no_grad():
        learned = network(numbers, places)
    torch.save(network.cpu().state_dict(), out / "network.pt")
    (out / "network.json").write_text(json.dumps(shape))
    return answer.metrics(learned, truth, shape["answer"])
