"""Trains the network for late flights; called by the step `train`, whose contract is in its first lines."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from network import COLUMNS, Encoding, Network
from torch.nn.functional import binary_cross_entropy_with_logits as log_loss

HYPERPARAMETERS = {
    "embedding": 8,
    "hidden": 64,
    "dropout": 0.1,
    "epochs": 6,
    "batchSize": 512,
    "learningRate": 0.001,
    "weightDecay": 0.01,
}
"""What may be set, and what holds where it is not."""


def features(frame: pd.DataFrame, *, target: str) -> list[str]:  # noqa: ARG001 - the contract's signature
    """The columns that prediction needs."""
    return COLUMNS


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
    """Write network.pt and network.json to ``out``; the log loss (nats) and the share of late training rows.

    ``target`` is 0 or 1. The same arguments give the same weights on the same kind of processor, whether or
    not the training was interrupted between two epochs (``checkpoint``: see workflows/steps/checkpoint.py).
    On a GPU matrix products are in half precision, by autocast with a scaled loss. Raises ValueError for an
    unknown hyperparameter or another target, and FloatingPointError where the loss stops being a number.
    """
    unknown = sorted(hyperparameters.keys() - HYPERPARAMETERS.keys())
    if unknown:
        raise ValueError(f"unknown hyperparameter {', '.join(unknown)}; known: {', '.join(HYPERPARAMETERS)}")
    settings = HYPERPARAMETERS | hyperparameters
    if set(frame[target].unique()) != {0, 1}:
        raise ValueError(f"{target} must be 0 or 1, and both must occur")

    torch.set_num_threads(1)  # sums in another order give other weights
    mixed = device == "cuda"
    if mixed:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)

    encoding = Encoding.of(frame)
    numbers, codes = (part.to(device) for part in encoding.inputs(frame))
    late = torch.tensor(frame[target].to_numpy(), dtype=torch.float32, device=device)
    shape = {
        "known": [len(values) for values in encoding.values.values()],
        "embedding": settings["embedding"],
        "hidden": settings["hidden"],
    }
    network = Network(**shape, dropout=settings["dropout"]).to(device)
    descent = torch.optim.AdamW(
        network.parameters(), lr=settings["learningRate"], weight_decay=settings["weightDecay"]
    )
    scaler = torch.amp.GradScaler(device, enabled=mixed)

    first = 1
    if checkpoint.latest:
        kept = torch.load(checkpoint.latest / "epoch.pt", map_location=device, weights_only=True)
        network.load_state_dict(kept["network"])
        descent.load_state_dict(kept["descent"])
        scaler.load_state_dict(kept["scaler"])
        torch.set_rng_state(kept["random"].cpu())
        if mixed:
            torch.cuda.set_rng_state(kept["random-cuda"].cpu())
        first = kept["epoch"] + 1

    for epoch in range(first, settings["epochs"] + 1):
        total = 0.0
        for batch in torch.randperm(len(late)).to(device).split(settings["batchSize"]):
            descent.zero_grad()
            with torch.autocast(device, dtype=torch.float16, enabled=mixed):
                loss = log_loss(network(numbers[batch], codes[batch]), late[batch])
            scaler.scale(loss).backward()
            scaler.step(descent)
            scaler.update()
            total += loss.item() * len(batch)
        mean = total / len(late)
        progress(epoch=epoch, of=settings["epochs"], loss=mean)
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"the loss is {mean} in epoch {epoch}; "
                f"a learningRate below {settings['learningRate']} may keep it finite"
            )
        state = {
            "epoch": epoch,
            "network": network.state_dict(),
            "descent": descent.state_dict(),
            "scaler": scaler.state_dict(),
            "random": torch.get_rng_state(),
            **({"random-cuda": torch.cuda.get_rng_state()} if mixed else {}),
        }
        checkpoint.save(lambda folder, state=state: torch.save(state, folder / "epoch.pt"))

    network.eval()
    with torch.no_grad():
        learned = log_loss(network(numbers, codes), late).item()
    torch.save(network.cpu().state_dict(), out / "network.pt")
    (out / "network.json").write_text(json.dumps({"shape": shape, "encoding": encoding._asdict()}))
    return {"train-log-loss": learned, "train-late": late.mean().item()}
