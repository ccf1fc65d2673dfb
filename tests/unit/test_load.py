"""Loading a commit: what comes out of the shipped repository, the cache, and what hides whom."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from pydantic import BaseModel

from reconciler import load as load_module
from reconciler.adapters.folder_source import FolderSource, tree_id
from reconciler.core.base import Subject, parse_duration
from reconciler.core.desired import DesiredState
from reconciler.core.documents import KINDS, Declaration, Gate, Versus, When
from reconciler.core.errors import Terminal
from reconciler.core.policies import loosenings, merge_gates
from reconciler.core.validation import PATTERN_HINTS
from reconciler.load import load
from reconciler.ports import Blob

ROOT = Path(__file__).parents[2]
SHIPPED = ("environments", "models", "policies", "workflows/rendered")


class CountingSource(FolderSource):
    """A folder that remembers which blobs were asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[str] = []

    def read(self, oids: Iterable[str]) -> Mapping[str, bytes]:
        wanted = list(oids)
        self.asked += wanted
        return super().read(wanted)


@pytest.fixture(autouse=True)
def _nothing_cached() -> None:
    load_module._cache.clear()


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """A copy of what this repository ships."""
    for folder in SHIPPED:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.csv"))
    return tmp_path


def state_of(folder: Path) -> DesiredState:
    source = FolderSource(folder)
    return load(source, source.head())


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=T", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


# --- what ships -------------------------------------------------------------------------------------------


def test_what_ships_has_no_problem(shipped: Path) -> None:
    assert [str(problem) for problem in state_of(shipped).problems] == []


def test_what_ships_tells_editors_its_schema(shipped: Path) -> None:
    """The path leads to the schema of its own kind, here as in what `reconcile init` writes."""
    documents = {
        path: path.read_text() for folder in SHIPPED[:3] for path in (shipped / folder).rglob("*.yaml")
    }
    assert len(documents) >= 7
    for path, text in documents.items():
        schema = text.splitlines()[0].partition("# yaml-language-server: $schema=")[2]
        there = ROOT / path.relative_to(shipped).parent / schema
        assert f"kind: {there.stem}" in text.splitlines(), path
        assert there.resolve().parent == ROOT / "docs" / "schemas"
        assert there.is_file()


def test_what_ships_asks_for_this(shipped: Path) -> None:
    state = state_of(shipped)
    staging, production = state.environments["staging"], state.environments["production"]
    assert (staging.promotion.merge, staging.promotion.approvals) == ("auto", 0)
    assert (production.promotion.merge, production.promotion.approvals) == ("auto", 1)
    assert production.promotes_from is not None
    assert production.promotes_from.all_of == ("staging",)
    assert (staging.promotion.soak, production.promotion.soak) == (parse_duration("10m"), parse_duration("30m"))
    assert state.roots("digits") == ("staging",)
    assert [str(subject) for subject in state.subjects if subject.model == "digits"] == [
        *("digits", "production/digits", "staging/digits")
    ]
    assert state.training_key("digits")


def test_each_shipped_policy_tightens_the_one_before(shipped: Path) -> None:
    policies = {name: {g.name: g for g in policy.gates} for name, policy in state_of(shipped).policies.items()}
    for gate in ("accuracy", "auc", "r2"):
        drops = [policies[name][gate].versus.max_drop for name in ("dev", "staging", "production")]  # type: ignore[union-attr]
        assert drops == [0.1, 0.05, 0]
    assert policies["production"]["drift"].when.declares == ("monitoring.record",)
    assert policies["production"]["parity"] == policies["dev"]["parity"]
    assert policies["staging"]["not-worse"].on_no_champion == "baseline"
    assert policies["production"]["not-worse"].on_no_champion == "review"


def test_what_ships_asks_of_digits_what_it_promised(shipped: Path) -> None:
    """Baselines less what each environment allows: the thresholds that a reader of the policies works out."""
    state = state_of(shipped)
    model = state.models["digits"].model
    asked = {
        name: {
            gate.name: round(model.baselines[gate.metric.partition(".")[2]] - gate.versus.max_drop, 9)
            for gate in policy.gates
            if gate.when.meant("digits", model.task, model.declared)
            and gate.versus
            and gate.versus.ref == "baseline"
        }
        for name, policy in state.policies.items()
    }
    assert asked == {
        "dev": {"accuracy": 0.77},
        "staging": {"accuracy": 0.82, "f1-macro": 0.83, "worst-slice": 0.77},
        "production": {"accuracy": 0.87, "f1-macro": 0.86, "worst-slice": 0.82},
    }


def test_the_training_key_is_the_same_before_and_after_the_commit(shipped: Path) -> None:
    git(shipped, "init", "--quiet")
    before = FolderSource(shipped).tree("", "models/digits/src")
    git(shipped, "add", ".")
    git(shipped, "commit", "--quiet", "--message", "all")
    assert before == git(shipped, "rev-parse", "HEAD:models/digits/src")
    assert FolderSource(shipped).tree("", "") == git(shipped, "rev-parse", "HEAD^{tree}")


# --- the cache --------------------------------------------------------------------------------------------


def test_an_unchanged_blob_is_parsed_once(shipped: Path) -> None:
    first = CountingSource(shipped)
    before = load(first, "one")
    assert first.asked
    again = CountingSource(shipped)
    after = load(again, "two")
    assert again.asked == []
    assert after.model_copy(update={"revision": "one"}) == before


def test_a_changed_blob_is_parsed_alone(shipped: Path) -> None:
    state_of(shipped)
    path = shipped / "environments/staging/environment.yaml"
    path.write_text(path.read_text().replace("soak: 10m", "soak: 11m"))
    source = CountingSource(shipped)
    assert load(source, "x").environments["staging"].promotion.soak == parse_duration("11m")
    assert source.asked == [source.files("x")["environments/staging/environment.yaml"].oid]


def test_the_cache_is_bounded(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "_CACHE_SIZE", 3)
    assert state_of(shipped).problems == ()
    assert len(load_module._cache) == 3
    assert state_of(shipped).problems == ()


# --- a part that is wrong ---------------------------------------------------------------------------------


def test_no_platform_is_the_embedded_stack(shipped: Path) -> None:
    (shipped / "environments/platform.yaml").unlink()
    state = state_of(shipped)
    assert state.problems == ()
    assert state.platform.engine.type == "embedded"
    assert list(state.platform.registries) == ["default"]


def test_a_bad_platform_hides_everything_and_blames_nobody_else(shipped: Path) -> None:
    (shipped / "environments/platform.yaml").write_text(
        "apiVersion: trueup.dev/v1\nkind: Platform\nregistry: x\n"
    )
    state = state_of(shipped)
    assert {problem.path for problem in state.problems} == {"environments/platform.yaml"}
    assert state.hidden(Subject(environment="staging", model="digits"))
    assert state.hidden(Subject(environment="elsewhere", model="other"))


def test_a_wrong_document_is_absent_and_the_others_are_not(shipped: Path) -> None:
    (shipped / "environments/staging/environment.yaml").write_text("kind: [\n")
    state = state_of(shipped)
    assert list(state.environments) == ["production"]
    assert list(state.models) == ["digits", "flight-delay"]
    assert state.hidden(Subject(environment="staging", model="digits"))
    assert not state.hidden(Subject(environment="production", model="digits"))


def test_a_pin_of_a_deleted_model_is_an_error_and_of_a_dropped_environment_is_not(shipped: Path) -> None:
    release = shipped / "environments/staging/releases/digits.yaml"
    release.parent.mkdir()
    release.write_text(RELEASE)
    model = shipped / "models/digits/model.yaml"
    model.write_text(model.read_text().replace("[staging, production]", "[production]"))
    state = state_of(shipped)
    assert state.problems == ()
    assert state.releases["staging/digits"].pin.version == "3"

    shutil.rmtree(shipped / "models/digits")
    state = state_of(shipped)
    (problem,) = state.problems
    assert str(problem) == (
        "environments/staging/releases/digits.yaml:1: pins the model digits, and there is no "
        "models/digits/model.yaml. hint: restore it without staging in its environments, which opens a removal"
    )
    assert state.hidden(Subject(environment="staging", model="digits"))
    assert "staging/digits" in state.releases


def test_rendered_files_are_known_by_their_blob_ids(shipped: Path) -> None:
    folder = shipped / "environments/staging/rendered/digits"
    folder.mkdir(parents=True)
    (folder / "deployment.yaml").write_text("kind: Deployment\n")
    oid = git(shipped, "hash-object", str(folder / "deployment.yaml"))
    assert state_of(shipped).rendered == {"staging/digits": {"deployment.yaml": oid}}


def test_nothing_below_rendered_is_overlooked(shipped: Path) -> None:
    rendered = shipped / "environments/staging/rendered"
    (rendered / "digits/sub").mkdir(parents=True)
    for name in ("digits/sub/release.yaml", "job.yaml"):
        (rendered / name).write_text("kind: Job\n")
    oid = git(shipped, "hash-object", str(rendered / "job.yaml"))
    state = state_of(shipped)
    assert state.rendered == {"staging/digits": {"sub/release.yaml": oid}}
    (problem,) = (problem for problem in state.problems if problem.severity == "error")
    assert (problem.path, problem.what) == ("environments/staging/rendered/job.yaml", "is no model's manifest")


def test_a_pointer_may_track_a_folder(shipped: Path) -> None:
    before = state_of(shipped)
    pointer = shipped / "models/digits/data/train.csv.dvc"
    folder = "0" * 32 + ".dir"
    pointer.write_text(f"outs:\n- md5: {folder}\n  size: 8\n  nfiles: 2\n  hash: md5\n  path: train\n")
    after = state_of(shipped)
    assert after.problems == before.problems
    assert after.training_inputs("digits") == before.training_inputs("digits") | {"data": folder}
    assert after.training_key("digits") != before.training_key("digits")


def test_unused_pointers_are_not_read(shipped: Path) -> None:
    (shipped / "models/digits/data/old.csv.dvc").write_text("outs: 3")
    assert state_of(shipped).problems == ()


def test_a_link_in_place_of_a_folder_is_told(shipped: Path) -> None:
    shutil.rmtree(shipped / "environments/production")
    (shipped / "environments/production").symlink_to("staging")
    state = state_of(shipped)
    assert [str(p) for p in state.problems if p.path == "environments/production"] == [
        "environments/production: is a symbolic link. hint: commit the file or folder itself"
    ]
    assert state.hidden(Subject(environment="production", model="digits"))


RELEASE = f"""\
apiVersion: trueup.dev/v1
kind: Release
pin:
  registry: default
  name: digits
  version: "3"
  digest: sha256:{"a" * 64}
image: trueup/server@sha256:{"b" * 64}
serving:
  strategy: rolling
  replicas: 1
  resources: {{cpu: 500m, memory: 1Gi}}
renderer: deployment/v1
admission:
  grounds: promotion
  judgedAt: 2026-03-01T12:00:00Z
"""


# --- policies ---------------------------------------------------------------------------------------------

PARENT = Gate(
    name="g",
    metric="evaluate.accuracy",
    op=">=",
    threshold=0.9,
    versus=Versus(ref="champion", max_drop=0.02),
    min_samples=100,
    max_age=parse_duration("7d"),
    slices=("ink",),
    when=When(tasks=("classification",)),
    on_no_champion="review",
)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"metric": "evaluate.f1-macro"}, "metric"),
        ({"threshold": 0.89}, "threshold"),
        ({"op": None, "threshold": None}, "threshold"),
        ({"op": "<="}, "op"),
        ({"versus": None}, "versus"),
        ({"versus": Versus(ref="baseline", max_drop=0.02)}, "versus.ref"),
        ({"versus": Versus(ref="champion", max_drop=0.03)}, "versus.maxDrop"),
        ({"versus": Versus(ref="champion", max_rise=0.02)}, "versus.maxDrop"),
        ({"min_samples": 99}, "minSamples"),
        ({"max_age": None}, "maxAge"),
        ({"max_age": parse_duration("8d")}, "maxAge"),
        ({"slices": ()}, "slices"),
        ({"slices": ("age",)}, "slices"),
        ({"on_fail": "review"}, "onFail"),
        ({"on_missing": "review"}, "onMissing"),
        ({"on_no_champion": "absolute"}, "onNoChampion"),
        ({"when": When(tasks=("regression",))}, "when.tasks"),
        ({"when": When(tasks=("classification",), changes=("version",))}, "when.changes"),
        ({"when": When(tasks=("classification",), models=("digits",))}, "when.models"),
    ],
)
def test_every_way_to_ask_less_is_found(change: dict[str, object], field: str) -> None:
    child = PARENT.model_copy(update=change)
    assert [".".join(found.field) for found in loosenings(PARENT, child)] == [field]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"op": ">"},
        {"threshold": 0.95},
        {"versus": Versus(ref="champion", max_drop=0.0)},
        {"min_samples": 1000},
        {"max_age": parse_duration("1d")},
        {"slices": ("ink", "age")},
        {"on_no_champion": "block"},
        {"when": When()},
        {"when": When(tasks=("regression", "classification"))},
    ],
)
def test_asking_as_much_or_more_is_fine(change: dict[str, object]) -> None:
    assert list(loosenings(PARENT, PARENT.model_copy(update=change))) == []


def test_a_gate_of_named_models_may_not_leave_one_out() -> None:
    both, one = (PARENT.model_copy(update={"when": When(models=names)}) for names in (("a", "b"), ("a",)))
    assert [found.what for found in loosenings(both, one)] == [
        "leaves out models b, to which its parent applies"
    ]
    assert list(loosenings(one, both)) == []


def test_a_gate_of_all_models_may_not_leave_out_those_that_record_nothing() -> None:
    record: Declaration = "monitoring.record"
    every, some = (PARENT.model_copy(update={"when": When(declares=names)}) for names in ((), (record,)))
    assert [found.what for found in loosenings(every, some)] == [
        "leaves out models without monitoring.record, to which its parent applies"
    ]
    assert list(loosenings(some, every)) == []


def test_a_gate_of_every_version_may_not_leave_out_the_first() -> None:
    every, later = (PARENT.model_copy(update={"when": When(champion=asked)}) for asked in (False, True))
    assert [found.what for found in loosenings(every, later)] == [
        "leaves out a first release, to which its parent applies"
    ]
    assert list(loosenings(later, every)) == []


def test_before_a_champion_a_baseline_asks_more_than_a_threshold_alone() -> None:
    alone, baseline = (PARENT.model_copy(update={"on_no_champion": how}) for how in ("absolute", "baseline"))
    assert list(loosenings(alone, baseline)) == []
    assert [found.field for found in loosenings(baseline, alone)] == [("onNoChampion",)]


def test_an_equal_value_no_longer_admitted_may_not_be_admitted_again() -> None:
    strict = PARENT.model_copy(update={"op": ">"})
    assert [found.what for found in loosenings(strict, PARENT)] == ["asks >= 0.9 where its parent asks > 0.9"]


def test_slices_in_place_of_the_whole_are_another_question() -> None:
    whole = PARENT.model_copy(update={"slices": ()})
    assert [".".join(found.field) for found in loosenings(whole, PARENT)] == ["slices"]


def test_gates_merge_by_name_and_keep_the_parents_order() -> None:
    a, b, c = (PARENT.model_copy(update={"name": name}) for name in "abc")
    tighter = b.model_copy(update={"threshold": 0.99})
    assert merge_gates((a, b), (c, tighter)) == (a, tighter, c)


# --- messages ---------------------------------------------------------------------------------------------


def test_every_pattern_of_the_format_has_a_hint() -> None:
    def patterns(schema: object) -> Iterable[str]:
        if isinstance(schema, dict):
            if isinstance(schema.get("pattern"), str):
                yield schema["pattern"]
            for value in schema.values():
                yield from patterns(value)
        elif isinstance(schema, list):
            for value in schema:
                yield from patterns(value)

    kinds: list[type[BaseModel]] = [kind.type for kind in KINDS.values()]
    found = {pattern for kind in kinds for pattern in patterns(kind.model_json_schema())}
    durations = {pattern for pattern in found if "s|m|h|d" in pattern}  # a validator of ours words these
    pointers = {pattern for pattern in found if pattern.endswith(r"\.dvc$")}
    assert found - durations - pointers <= PATTERN_HINTS.keys()


# --- the folder -------------------------------------------------------------------------------------------


def test_a_folder_has_what_git_would_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text("*.csv\n")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "a/run.sh").chmod(0o755)
    (tmp_path / "a.txt").write_text("sorts before the folder a, though a/ comes later\n")
    (tmp_path / "a-b").symlink_to("a.txt")
    (tmp_path / "deleted.txt").write_text("x")
    (tmp_path / "data.csv").write_text("1,2\n")
    git(tmp_path, "add", ".")
    (tmp_path / "deleted.txt").unlink()
    (tmp_path / ".trueup").mkdir()
    (tmp_path / ".trueup/mlflow.db").write_text("state")
    source = FolderSource(tmp_path)
    git(tmp_path, "add", "--all", ":!.trueup")
    listed = [line.split(None, 3) for line in git(tmp_path, "ls-files", "--stage").splitlines()]
    assert source.files("") == {path: Blob(mode, oid) for mode, oid, _, path in listed}
    assert source.tree("", "") == git(tmp_path, "write-tree")
    assert source.tree("", "a") == git(tmp_path, "rev-parse", f"{git(tmp_path, 'write-tree')}:a")
    assert source.tree("", "nothing") == ""


def test_a_folder_without_git_is_walked(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/a.yaml").write_text("x: 1\n")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/b.yaml").write_text("x: 1\n")
    source = FolderSource(tmp_path)
    assert list(source.files("")) == ["policies/a.yaml"]
    (blob,) = source.files("").values()
    assert source.read([blob.oid]) == {blob.oid: b"x: 1\n"}


def test_a_folder_has_no_history(tmp_path: Path) -> None:
    source = FolderSource(tmp_path)
    for ask in (
        lambda: source.resolve("main"),
        lambda: source.log("x"),
        lambda: source.checkout("x", tmp_path / "y"),
    ):
        with pytest.raises(Terminal, match="a folder has no"):
            ask()
    with pytest.raises(Terminal, match="no file has the id"):
        source.read(["0" * 40])
    with pytest.raises(Terminal, match="is not a folder"):
        FolderSource(tmp_path / "nowhere").files("")


def test_the_empty_tree_is_gits() -> None:
    assert tree_id({}) == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
