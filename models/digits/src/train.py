"""Trains the digits network; called by the step `train` (see workflows/steps/train.py for the contract)."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from network import PIXELS, Network, images
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

HYPERPARAMETERS = {"channels": 8, "epochs": 6, "batchSize": 32, "learningRate": 0.02}
"""What may be set, and what holds where it is not."""
MOMENTUM = 0.9


def features(frame: pd.DataFrame, *, target: str) -> list[str]:  # noqa: ARG001 - the contract's signature
    """The columns that prediction needs."""
    return PIXELS


def descend(network: nn.Module, velocities: list[Tensor], rate: float) -> None:
    """One step of gradient descent with momentum, as torch.optim.SGD does it.

    Importing torch.optim takes three seconds, because it brings torch's compiler; this training takes one.
    """
    with torch.no_grad():
        for weights, velocity in zip(network.parameters(), velocities, strict=True):
            velocity.mul_(MOMENTUM).add_(weights.grad)
            weights.sub_(velocity, alpha=rate)


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
    """Write network.pt and network.json to ``out``; the loss (nats) and accuracy on the training rows.

    The same arguments give the same weights on the same kind of processor, whether or not the training was
    interrupted between two epochs (``checkpoint``: see workflows/steps/checkpoint.py). Raises ValueError for an
    unknown hyperparameter and FloatingPointError where the loss stops being a number.
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

    classes = sorted(frame[target].unique().tolist())
    inputs = images(frame).to(device)
    labels = torch.tensor([classes.index(label) for label in frame[target]], device=device)
    network = Network(settings["channels"], len(classes)).to(device)
    velocities = [torch.zeros_like(weights) for weights in network.parameters()]

    first = 1
    if checkpoint.latest:
        kept = torch.load(checkpoint.latest / "epoch.pt", map_location=device, weights_only=True)
        network.load_state_dict(kept["network"])
        velocities = kept["velocities"]
        torch.set_rng_state(kept["random"].cpu())
        first = kept["epoch"] + 1

    for epoch in range(first, settings["epochs"] + 1):
        total = 0.0
        for batch in torch.randperm(len(labels)).to(device).split(settings["batchSize"]):
            network.zero_grad()
            loss = cross_entropy(network(inputs[batch]), labels[batch])
            loss.backward()
            descend(network, velocities, settings["learningRate"])
            total += loss.item() * len(batch)
        mean = total / len(labels)
        progress(epoch=epoch, of=settings["epochs"], loss=mean)
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"the loss is {mean} in epoch {epoch}; "
                f"a learningRate below {settings['learningRate']} may keep it finite"
            )
        state = {
            "epoch": epoch,
            "network": network.state_dict(),
            "velocities": velocities,
            "random": torch.get_rng_state(),
        }
        checkpoint.save(lambda folder, state=state: torch.save(state, folder / "epoch.pt"))

    network.eval()
    with torch.no_grad():
        logits = network(inputs)
    torch.save(network.cpu().state_dict(), out / "network.pt")
    shape = {"channels": settings["channels"], "classes": classes}
    (out / "network.json").write_text(json.dumps(shape))
    return {
        "train-loss": cross_entropy(logits, labels).item(),
        "train-accuracy": (logits.argmax(1) == labels).float().mean().item(),
    }
