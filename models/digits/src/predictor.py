"""What MLflow runs to predict ("models from code": this file, not a pickle, is in the model's folder)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import torch
from network import Network, images


class Digits(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Raw rows in; ``prediction`` and one ``probability_CLASS`` column a class out."""

    def load_context(self, context: Any) -> None:
        folder = Path(context.artifacts["weights"])
        shape = json.loads((folder / "network.json").read_text())
        self.classes = shape["classes"]
        self.network = Network(shape["channels"], len(self.classes))
        self.network.load_state_dict(torch.load(folder / "network.pt", weights_only=True))
        self.network.eval()

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002
        with torch.no_grad():
            probabilities = self.network(images(model_input)).double().softmax(1)
        frame = pd.DataFrame(probabilities.numpy(), columns=[f"probability_{c}" for c in self.classes])
        frame.insert(0, "prediction", [self.classes[i] for i in probabilities.argmax(1).tolist()])
        return frame


mlflow.models.set_model(Digits())
