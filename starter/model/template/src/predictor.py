"""What MLflow runs to predict ("models from code": this file, not a pickle, is in the model's folder)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import answer
import columns
import mlflow
import pandas as pd
import torch
from network import Network


class Predictor(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Raw rows in, answers out, in their order."""

    def load_context(self, context: Any) -> None:
        self.load(Path(context.artifacts["weights"]))

    def load(self, folder: Path) -> None:
        self.shape = json.loads((folder / "network.json").read_text())
        outputs = answer.outputs(self.shape["answer"])
        self.network = Network(self.shape["columns"], self.shape["width"], outputs)
        self.network.load_state_dict(torch.load(folder / "network.pt", weights_only=True))
        self.network.double().eval()  # so that a row's answer does not depend on the rows beside it

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002
        numbers, places = columns.encode(model_input, self.shape["columns"])
        with torch.no_grad():
            outputs = self.network(numbers.double(), places)
        return answer.answers(outputs, self.shape["answer"])


mlflow.models.set_model(Predictor())
