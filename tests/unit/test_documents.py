"""No field of a document is silently ignored: something reads it, it is refused, or it is for people.

What a Platform names is read where it is connected; the tests of bootstrap hold that.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from reconciler.core import base
from reconciler.core.base import Document
from reconciler.core.documents import KINDS

CODE = Path(__file__).parents[2] / "reconciler"
BEHAVIOUR = ("workflows/steps/behaviour.py", "workflows/steps/cases.py")
"""What reads the document that only a measurement reads."""
TESTS = ("Invariance", "Direction", "Minimum")
FOR_PEOPLE = {"Model.owner", "Model.description", *(f"{test}.about" for test in TESTS)}
ONE_VALUE = {
    "Environment.sync",
    *(f"{test}.type" for test in TESTS),
    *(f"{kind.type.__name__}.api_version" for kind in KINDS.values()),
}


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The document's class and those of everything inside it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models(field.annotation)
    for inner in get_args(annotation):
        yield from models(inner)


def later(model: type[BaseModel], name: str) -> bool:
    return any(getattr(part, "func", None) is base._refuse for part in model.model_fields[name].metadata)


def fields(*kinds: type[Document]) -> set[tuple[type[BaseModel], str]]:
    return {(model, name) for kind in kinds for model in models(kind) for name in model.model_fields}


def attributes() -> set[str]:
    """Every attribute that the pure part of the reconciler reads, or a step of these, by name alone."""
    files = [*CODE.glob("*.py"), *(CODE / "core").rglob("*.py"), *(CODE / "planning").rglob("*.py")]
    files += [CODE.parent / path for path in BEHAVIOUR]
    files += [CODE.parent / "workflows/steps/rules.py"]
    nodes = (node for path in files for node in ast.walk(ast.parse(path.read_text())))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def test_every_field_is_read_or_refused() -> None:
    kinds = [kind.type for name, kind in KINDS.items() if name != "Platform"]
    read = attributes()
    ignored = {f"{m.__name__}.{name}" for m, name in fields(*kinds) if name not in read and not later(m, name)}
    assert ignored - ONE_VALUE == FOR_PEOPLE


LATER = sorted(
    (model.__name__, name, model)
    for model, name in fields(*(kind.type for kind in KINDS.values()))
    if later(model, name)
)


@pytest.mark.parametrize(("_", "name", "model"), LATER, ids=[f"{one}.{name}" for one, name, _ in LATER])
def test_what_comes_later_is_refused_in_plain_words(_: str, name: str, model: type[BaseModel]) -> None:
    with pytest.raises(ValidationError) as refusal:
        model.model_validate({name: {"some": "thing"}})
    told = {error["loc"]: error["msg"] for error in refusal.value.errors()}
    assert base.NOT_YET in told[name,]
    assert model.model_fields[name].default is None
