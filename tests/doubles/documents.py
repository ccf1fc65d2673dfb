"""Documents of a small GitOps repository, as files, with the shipped policies and workflow templates."""

from __future__ import annotations

from hashlib import md5
from pathlib import Path
from typing import Any

from reconciler.core.canonical import dump_yaml
from reconciler.core.references import environment_path, model_path
from reconciler.core.strict_yaml import read

ROOT = Path(__file__).parents[2]
SOAK = "10m"


def shipped() -> dict[str, str]:
    """The platform's document, the policies and the workflow templates that this repository has."""
    found = [ROOT / "environments" / "platform.yaml"]
    for folder in ("policies", "workflows/rendered"):
        found += sorted((ROOT / folder).glob("*.yaml"))
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in found}


def environment(name: str, *, promotes_from: tuple[str, ...] = (), **changes: Any) -> dict[str, str]:
    """``changes`` replace whole fields, spelled as in the file."""
    document: dict[str, Any] = {
        "apiVersion": "trueup.dev/v1",
        "kind": "Environment",
        "policy": "production" if promotes_from else "staging",
        "alias": name,
        "namespace": name,
        "promotion": {"merge": "auto", "approvals": 0, "soak": SOAK},
        "rollback": {"for": "1m", "window": "24h", "merge": "auto"},
    }
    if promotes_from:
        document["promotesFrom"] = {"allOf": list(promotes_from)}
    return {environment_path(name): dump_yaml(document | changes)}


def model(name: str, *environments: str, seed: int = 0, **changes: Any) -> dict[str, str]:
    """A model that is trained by workflow, with its code and data pointers."""
    document: dict[str, Any] = {
        "apiVersion": "trueup.dev/v1",
        "kind": "Model",
        "owner": "a-team",
        "task": "classification",
        "registeredName": name,
        "data": {
            "train": {"pointer": "data/train.csv.dvc"},
            "evaluation": {"pointer": "data/evaluation.csv.dvc", "target": "label", "slices": ["ink"]},
        },
        "training": {"workflow": "train-v1", "seed": seed},
        "baselines": {"accuracy": 0.9, "f1-macro": 0.88},
        "environments": list(environments),
    }
    return {
        model_path(name): dump_yaml(document | changes),
        f"models/{name}/src/train.py": f"# trains {name}\n",
        f"models/{name}/data/train.csv.dvc": pointer(f"{name} train"),
        f"models/{name}/data/evaluation.csv.dvc": pointer(f"{name} evaluation"),
    }


def pointer(content: str) -> str:
    """A DVC pointer to a file of this content."""
    found = md5(content.encode(), usedforsecurity=False).hexdigest()
    return f"outs:\n- md5: {found}\n  size: {len(content)}\n  hash: md5\n  path: data.csv\n"


def edited(text: str, **changes: Any) -> str:
    """A document with some of its fields replaced, spelled as in the file."""
    return dump_yaml(read(text.encode(), "a document").value | changes)
