"""Keys change with their declared inputs and with nothing else: every field of a document is on one side.

A new field of Model, Environment or Release fails here until somebody says which keys it is part of.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from reconciler.core.base import Subject
from reconciler.core.contract import Column, Contract
from reconciler.core.desired import DesiredState, ModelSource
from reconciler.core.digests import digest_of
from reconciler.core.documents import (
    Admission,
    Compute,
    Environment,
    External,
    Files,
    Model,
    Monitoring,
    Pin,
    Rejected,
    Release,
    Retrain,
    Schedule,
    VerifiedPin,
)
from reconciler.core.evidence import CATALOGUE
from reconciler.core.platform import Platform
from reconciler.core.search import Dimension, Halving, Objective, Search
from reconciler.core.serving import Record, Serving, ServingSnapshot
from reconciler.planning.judge import Case, case_of
from tests.stories.build import HERE, Story, digest_of_version, instant

STORY = Story(HERE, {"at": "2026-03-02T12:00:00Z", "versions": {"digits": {"v1": {}}}})
BASE = STORY.main
SOURCE = BASE.models["digits"]
STAGING = Subject(environment="staging", model="digits")
CHAMPION = VerifiedPin(
    version="2", digest=digest_of_version(2), release=digest_of_version(8), at=instant("2026-03-01T12:00:00Z")
)

SEARCH = Search(
    method="successive-halving",
    space={"rate": Dimension(low=0.001, high=0.1, log=True)},
    metric=Objective(name="loss", goal="min"),
    trials=9,
    halving=Halving(resource="epochs", min=1),
)


def fields(kind: type[BaseModel], *opened: str) -> set[str]:
    """The dotted names of a document's fields; those in ``opened`` are given field by field."""

    def names(model: type[BaseModel], prefix: str) -> Iterator[str]:
        for name, field in model.model_fields.items():
            dotted = f"{prefix}{name}"
            if dotted not in opened:
                yield dotted
                continue
            inner = [t for t in _types(field.annotation) if isinstance(t, type) and issubclass(t, BaseModel)]
            yield from (each for one in inner for each in names(one, f"{dotted}."))

    return set(names(kind, ""))


def _types(annotation: Any) -> tuple[Any, ...]:
    return tuple(getattr(annotation, "__args__", ())) or (annotation,)


def put(model: Any, dotted: str, value: Any) -> Any:
    """A copy with one field, however deep, set to ``value``."""
    name, _, rest = dotted.partition(".")
    return model.model_copy(update={name: put(getattr(model, name), rest, value) if rest else value})


def with_source(source: ModelSource) -> DesiredState:
    return BASE.model_copy(update={"models": {"digits": source}})


def training_key(state: DesiredState) -> str | None:
    return state.training_key("digits")


def evidence_keys(state: DesiredState, **case: Any) -> dict[str, str]:
    """Measurement -> key, of version 1 against version 2."""
    pin, image = STORY.pin("digits", 1), state.platform.images.server
    found: Case = case_of(state, STAGING, pin, image, CHAMPION)._replace(**case)
    return {measurement: found.key(measurement) for measurement in CATALOGUE}


# --- the model's document ---------------------------------------------------------------------------------

CONTRACT = Contract(columns={"id": Column(type="text")}, keys=("id",))
MODEL_FIELDS: dict[str, tuple[Any, str]] = {
    # field -> another value, and the keys that it is part of
    "api_version": ("trueup.dev/v1", ""),
    "kind": ("Model", ""),
    "owner": ("another-team", ""),
    "description": ("other words", ""),
    "task": ("regression", "reproduce evaluate"),
    "registered_name": ("other", ""),
    "data.train.pointer": ("data/other.csv.dvc", ""),  # its md5 counts, not where it is
    "data.evaluation.pointer": ("data/other.csv.dvc", ""),
    "data.evaluation.target": ("other", "reproduce evaluate parity behaviour contract load speed"),
    "data.evaluation.slices": (("ink",), "evaluate"),
    "data.evaluation.protected": (("ink",), "evaluate"),
    "data.contract": (CONTRACT, "contract changes"),  # the changes by its keys alone
    "training.workflow": ("measure-evaluate-v1", "training"),
    "training.external": (None, ""),
    "training.hyperparameters": ({"epochs": 7}, "training"),
    "training.seed": (1, "training"),
    "training.retrain": (Retrain(cooldown=timedelta(hours=6), hours_per_day=8), ""),
    "training.reproduce": (Schedule(cron="0 2 * * sun"), ""),
    "training.compute": (Compute(gpus=1, device="cuda", hours=9, pool="gpu", spot=True), ""),
    "training.search": (SEARCH, "training"),
    "baselines": ({"accuracy": 0.9}, ""),
    "serving": (Serving(replicas=7), ""),
    "monitoring": (Monitoring(record=Record()), ""),
    "files": (Files(types=(".ubj",)), "files"),
    "environments": (("production",), ""),
    "priority": (9, ""),
}
SOURCE_FIELDS: dict[str, tuple[Any, str]] = {
    "model": (SOURCE.model, ""),
    "source_tree": ("f" * 40, "training"),
    "train_md5": ("f" * 32, "training"),
    "evaluation_md5": ("f" * 32, "reproduce evaluate parity behaviour contract load speed"),
    "behaviour": ("f" * 40, "behaviour"),
    "suite": ("f" * 40, ""),  # of a contract that names one; the next test
}


def test_every_field_of_a_model_is_classified() -> None:
    opened = ("data", "data.train", "data.evaluation", "training")
    assert fields(Model, *opened) == MODEL_FIELDS.keys()
    assert fields(ModelSource) == SOURCE_FIELDS.keys()


def changed_keys(state: DesiredState) -> set[str]:
    before, after = evidence_keys(BASE), evidence_keys(state)
    changed = {name for name in CATALOGUE if before[name] != after[name]}
    return changed | ({"training"} if training_key(state) != training_key(BASE) else set())


@pytest.mark.parametrize("field", MODEL_FIELDS)
def test_a_field_of_the_model_changes_the_keys_it_is_part_of(field: str) -> None:
    value, keys = MODEL_FIELDS[field]
    state = with_source(SOURCE.model_copy(update={"model": put(SOURCE.model, field, value)}))
    assert changed_keys(state) == set(keys.split())


OTHER_SEARCHES: dict[str, tuple[Any, bool]] = {
    # field of a search -> another value, and whether another model may come of it
    "method": ("random", True),
    "space": ({"rate": Dimension(low=0.001, high=0.1)}, True),
    "metric": (Objective(name="loss", goal="max"), True),
    "trials": (12, True),
    "parallelism": (7, False),
    "validation": (0.3, True),
    "halving": (Halving(resource="epochs", min=1, eta=2), True),
}


def test_a_search_is_in_the_training_key_but_for_how_many_trials_run_at_once() -> None:
    assert OTHER_SEARCHES.keys() == Search.model_fields.keys()
    base = with_source(put(SOURCE, "model.training.search", SEARCH))
    for field, (value, counts) in OTHER_SEARCHES.items():
        other = with_source(put(SOURCE, "model.training.search", SEARCH.model_copy(update={field: value})))
        assert (training_key(other) != training_key(base)) is counts, field


@pytest.mark.parametrize("field", SOURCE_FIELDS)
def test_the_files_that_a_model_names_change_the_keys_they_are_part_of(field: str) -> None:
    value, keys = SOURCE_FIELDS[field]
    assert changed_keys(with_source(put(SOURCE, field, value))) == set(keys.split())


def test_the_content_of_a_suite_is_part_of_what_is_measured_with_it() -> None:
    contract = Contract(engine="great-expectations", suite="suite.json")
    source = put(SOURCE, "model.data.contract", contract)
    before, after = (evidence_keys(with_source(put(source, "suite", blob * 40))) for blob in "ab")
    assert {name for name in CATALOGUE if before[name] != after[name]} == {"contract"}


def test_the_recipe_of_the_template_is_part_of_the_training_key() -> None:
    template = BASE.templates["train-v1"]
    again = {**BASE.templates, "train-v1": template.model_copy(update={"recipe": "2"})}
    assert changed_keys(BASE.model_copy(update={"templates": again})) == {"training"}
    parameters = {**BASE.templates, "train-v1": template.model_copy(update={"parameters": {"more": True}})}
    assert changed_keys(BASE.model_copy(update={"templates": parameters})) == set()


def test_the_parts_of_a_training_key_are_those_that_are_recorded_apart() -> None:
    """Otherwise "why is it trained again?" would have no answer."""
    assert BASE.training_inputs("digits").keys() == {"section", "source", "data", "seed", "recipe"}
    for field, part in {"source_tree": "source", "train_md5": "data"}.items():
        other = with_source(put(SOURCE, field, "f" * 32)).training_inputs("digits")
        assert {k for k, v in BASE.training_inputs("digits").items() if other[k] != v} == {part}


def test_external_training_has_no_key() -> None:
    training = SOURCE.model.training.model_copy(
        update={"workflow": None, "external": External(alias="requested")}
    )
    assert (
        training_key(with_source(SOURCE.model_copy(update={"model": put(SOURCE.model, "training", training)})))
        is None
    )


# --- the rest of the repository ---------------------------------------------------------------------------


@pytest.mark.parametrize("field", sorted(fields(Environment)))
def test_no_field_of_an_environment_is_part_of_a_key(field: str) -> None:
    """An environment is asked what a version must prove, never what a version is."""
    other = put(BASE.environments["staging"], field, getattr(BASE.environments["production"], field))
    state = BASE.model_copy(update={"environments": {**BASE.environments, "staging": other}})
    assert changed_keys(state) == set()


def test_no_policy_is_part_of_a_key() -> None:
    """A policy judges again; it never measures again."""
    assert changed_keys(BASE.model_copy(update={"policies": {}})) == set()


def test_of_the_platform_only_the_server_image_is_part_of_a_key() -> None:
    named = BASE.platform.images
    server = named.model_copy(update={"server": "trueup/server@sha256:" + "7" * 64})
    steps = named.model_copy(update={"steps": "trueup/steps@sha256:" + "7" * 64})
    for images, keys in ((server, {"parity", "load"}), (steps, set())):
        platform = BASE.platform.model_copy(update={"images": images})
        assert changed_keys(BASE.model_copy(update={"platform": platform})) == keys
    for field in fields(Platform) - {"images"}:
        other = BASE.platform.model_copy(update={field: None})
        assert changed_keys(BASE.model_copy(update={"platform": other})) == set()


# --- evidence ---------------------------------------------------------------------------------------------

CASE_FIELDS: dict[str, tuple[Any, set[str]]] = {
    # field -> another value, and the inputs that it is part of; those of the source are told apart above
    "subject": (Subject(environment="production", model="digits"), {"environment"}),
    "source": (put(SOURCE, "evaluation_md5", "f" * 32), {"data"}),
    "candidate": (digest_of_version(9), {"candidate"}),
    "champion": (digest_of_version(9), {"champion"}),
    "server": ("other", {"server"}),
    "change": ("serving", set()),
    "traffic": (digest_of_version(9), {"traffic"}),
}


def test_every_part_of_a_case_is_classified() -> None:
    assert set(Case._fields) == CASE_FIELDS.keys()


@pytest.mark.parametrize("field", CASE_FIELDS)
@pytest.mark.parametrize("measurement", CATALOGUE)
def test_an_evidence_key_is_made_of_what_the_catalogue_declares(measurement: str, field: str) -> None:
    value, inputs = CASE_FIELDS[field]
    declared = not inputs.isdisjoint(CATALOGUE[measurement].inputs)
    changed = evidence_keys(BASE, **{field: value})[measurement] != evidence_keys(BASE)[measurement]
    assert changed is declared


def test_a_new_recipe_is_another_evidence_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = evidence_keys(BASE)
    monkeypatch.setitem(CATALOGUE, "evaluate", CATALOGUE["evaluate"]._replace(recipe="another"))
    after = evidence_keys(BASE)
    assert before["evaluate"] != after["evaluate"]
    assert before["parity"] == after["parity"]


# --- releases ---------------------------------------------------------------------------------------------

RELEASE = Release(
    kind="Release",
    pin=STORY.pin("digits", 1),
    image=BASE.platform.images.server,
    serving=ServingSnapshot(),
    renderer="deployment/v1",
    admission=Admission(grounds="promotion", judged_at=STORY.at),
)
REJECTED = Rejected(digest=digest_of_version(3), version="3", reason="failed", since=STORY.at)
RELEASE_FIELDS: dict[str, tuple[Any, bool]] = {
    # field -> another value, and whether it is part of what runs
    "api_version": ("trueup.dev/v1", False),
    "kind": ("Release", False),
    "pin.registry": ("other", True),
    "pin.name": ("other", True),
    "pin.version": ("9", False),  # a name; the digest is the identity
    "pin.digest": (digest_of_version(9), True),
    "image": ("other@sha256:" + "7" * 64, True),
    "serving": (ServingSnapshot(replicas=9), True),
    "renderer": ("deployment/v2", True),
    "admission": (Admission(grounds="adoption", judged_at=STORY.at, reason="runs"), False),
    "champion": (CHAMPION, False),
    "rejected": ((REJECTED,), False),
}


def test_every_field_of_a_release_is_classified() -> None:
    assert fields(Release, "pin") == RELEASE_FIELDS.keys()
    assert {f"pin.{name}" for name in Pin.model_fields} <= RELEASE_FIELDS.keys()


@pytest.mark.parametrize("field", RELEASE_FIELDS)
def test_the_identity_of_a_release_is_what_runs(field: str) -> None:
    value, part = RELEASE_FIELDS[field]
    assert (put(RELEASE, field, value).digest != RELEASE.digest) is part


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("field", sorted(ServingSnapshot.model_fields))
def test_everything_about_serving_is_part_of_a_release(field: str) -> None:
    assert put(RELEASE, f"serving.{field}", "another").digest != RELEASE.digest


def test_a_later_field_at_its_default_leaves_every_digest_as_it_was() -> None:
    class LaterEnvironment(Environment):
        colour: str = "green"
        numbers: tuple[int, ...] = ()

    environment = BASE.environments["staging"]
    later = LaterEnvironment.model_validate(environment.model_dump(by_alias=True), strict=False)
    blue = later.model_copy(update={"colour": "blue"})
    assert digest_of("environment", document=later) == digest_of("environment", document=environment)
    assert digest_of("environment", document=blue) != digest_of("environment", document=environment)
