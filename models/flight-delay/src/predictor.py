"""What MLflow runs to predict ("models from code": this file, not a pickle, is in the model's folder)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import torch
from network import Encoding, Network


class FlightDelay(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Raw rows in; ``prediction`` (1: late), ``probability_0`` and ``probability_1`` out."""

    def load_context(self, context: Any) -> None:
        folder = Path(context.artifacts["weights"])
        learned = json.loads((folder / "network.json").read_text())
        self.encoding = Encoding(**learned["encoding"])
        self.network = Network(**learned["shape"])
        self.network.load_state_dict(torch.load(folder / "network.pt", weights_only=True))
        self.network.eval()

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002
        with torch.no_grad():
            late = self.network(*self.encoding.inputs(model_input)).double().sigmoid().numpy()
        return pd.DataFrame(
            {"prediction": (late > 0.5).astype(int), "probability_0": 1 - late, "probability_1": late}
        )


mlflow.models.set_model(FlightDelay())
