"""Real models with faults planted in them, measured by the shipped templates, judged by the shipped policies.

A :class:`Workbench` is a GitOps repository as a folder, an MLflow on SQLite and an embedded engine. Nothing of
it is a double: trainings and measurements are the submissions that the planner makes, run by the engine.
"""

from __future__ import annotations

import itertools
import json
import os
import runpy
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from hashlib import md5
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.adapters.embedded.engine import EmbeddedEngine
from reconciler.adapters.folder_source import FolderSource
from reconciler.adapters.mlflow_registry import MlflowRegistry
from reconciler.core.base import Subject
from reconciler.core.desired import DesiredState
from reconciler.core.documents import Pin, VerifiedPin, Waiver
from reconciler.core.evidence import Evidence, parse_evidence
from reconciler.core.observed import (
    ClusterSweep,
    EngineSweep,
    ForgeSweep,
    ModelVersion,
    Observed,
    RegistrySweep,
    Swept,
    WorkflowRun,
    Workload,
)
from reconciler.core.plan import GateVerdict, SubmitWorkflow
from reconciler.load import load
from reconciler.planning.candidates import Candidate
from reconciler.planning.judge import Case, case_of, judge
from reconciler.planning.measuring import submit_measurement
from reconciler.planning.training import submit_training
from reconciler.planning.view import View
from workflows.model_files import folder_digest

if TYPE_CHECKING:
    import pandas as pd

REPOSITORY = Path(__file__).parents[2]
KEPT = ("environments", "policies", "workflows/rendered")
PATIENCE = 300


class Workbench:
    """``model`` in a repository of its own, and what was trained and planted of it.

    Copies made by :meth:`edited` share the registry and the engine; each is another commit to them.
    """

    def __init__(self, home: Path, model: str) -> None:
        self.home, self.model, self.root = home, model, home / "commits" / "0"
        self.commits = {self._commit(0): self.root}
        for folder in KEPT:
            shutil.copytree(REPOSITORY / folder, self.root / folder)
        kept_out = shutil.ignore_patterns("*.csv", "train", "__pycache__")
        shutil.copytree(REPOSITORY / "models" / model, self.root / "models" / model, ignore=kept_out)
        fresh = home / "rows"
        fresh.mkdir()
        runpy.run_path(str(REPOSITORY / "models" / model / "data/prepare.py"))["write"](fresh)
        self.remote = home / "remote"
        self._offer(fresh)
        (self.root / ".dvc").mkdir()
        config = f"[core]\n    remote = here\n['remote \"here\"']\n    url = {self.remote}\n"
        (self.root / ".dvc/config").write_text(config)
        self.environment = {
            "TRUEUP_HOME": str(home),
            "TRUEUP_CACHE": str(home / "cache"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        self.registry = MlflowRegistry(self.environment["MLFLOW_TRACKING_URI"])
        self.engine = EmbeddedEngine(
            home=home,
            checkout=lambda commit, to: shutil.copytree(self.commits[commit], to) and None,
            env={**self.environment, "PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
        )
        self._numbers = itertools.count(1)  # one for all copies

    # --- the repository -----------------------------------------------------------------------------------

    @staticmethod
    def _commit(number: int) -> str:
        return f"{number:040x}"

    @property
    def commit(self) -> str:
        return next(commit for commit, root in self.commits.items() if root == self.root)

    @property
    def desired(self) -> DesiredState:
        state = load(FolderSource(self.root), self.commit)
        assert not state.problems, state.problems
        return state

    @property
    def folder(self) -> Path:
        """models/MODEL of this commit."""
        return self.root / "models" / self.model

    def edited(self, edit: Callable[[Path], None]) -> Workbench:
        """The same bench at another commit, after ``edit`` was given its models/MODEL folder."""
        other = object.__new__(Workbench)
        other.__dict__ = dict(self.__dict__)
        other.root = self.home / "commits" / str(len(self.commits))
        shutil.copytree(self.root, other.root)
        self.commits[self._commit(len(self.commits))] = other.root
        edit(other.folder)
        return other

    def with_rows(self, name: str, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> Workbench:
        """The same bench where ``data/NAME.csv``, ``train`` or ``evaluation``, holds other rows."""
        import pandas as pd

        def rewrite(folder: Path) -> None:
            file = self.home / f"{name}-{len(self.commits)}" / f"{name}.csv"
            file.parent.mkdir()
            edit(pd.read_csv(self.rows(name))).to_csv(file, index=False)
            self._offer(file.parent)
            content = file.read_bytes()
            (folder / "data" / f"{name}.csv.dvc").write_text(
                f"outs:\n- md5: {md5(content).hexdigest()}\n  size: {len(content)}\n  hash: md5\n"
                f"  path: {name}.csv\n"
            )

        return self.edited(rewrite)

    def rows(self, name: str) -> Path:
        """The CSV file that this commit's pointer names."""
        digest = (self.folder / "data" / f"{name}.csv.dvc").read_text().partition("md5: ")[2].split()[0]
        return self.remote / "files" / "md5" / digest[:2] / digest[2:]

    def _offer(self, folder: Path) -> None:
        """Put files into the DVC remote; a folder in it with its list of files."""
        for item in sorted(folder.iterdir()):
            if item.is_dir():
                listed = [
                    {"md5": self._store(file.read_bytes()), "relpath": file.relative_to(item).as_posix()}
                    for file in sorted(item.rglob("*"))
                    if file.is_file()
                ]
                self._store(json.dumps(listed, sort_keys=True).encode(), ".dir")
            else:
                self._store(item.read_bytes())

    def _store(self, content: bytes, suffix: str = "") -> str:
        digest = md5(content).hexdigest()
        entry = self.remote / "files" / "md5" / digest[:2] / (digest[2:] + suffix)
        entry.parent.mkdir(parents=True, exist_ok=True)
        entry.write_bytes(content)
        return digest

    # --- versions -----------------------------------------------------------------------------------------

    def train(self, **changes: str) -> ModelVersion:
        """Train this commit by the shipped workflow; ``changes`` are to the submission's parameters."""
        done = self.tried(**changes)
        assert done.phase == "Succeeded", done
        return self.version(done.outputs["version"])

    def tried(self, **changes: str) -> WorkflowRun:
        """A training that may fail."""
        desired = self.desired
        key = desired.training_key(self.model)
        assert key is not None
        action = submit_training(
            self._view(desired), Subject(model=self.model), key, self._next(), "for a test"
        )
        assert isinstance(action, SubmitWorkflow), action
        renamed = {name.replace("_", "-"): value for name, value in changes.items()}
        action = action.model_copy(update={"parameters": {**action.parameters, **renamed}})
        self._submit(action)
        return self._wait(action)

    def planted(self, version: ModelVersion, edit: Callable[[Path], None]) -> ModelVersion:
        """A new version with the files of this one, after ``edit`` was given a copy of them.

        As if that had been trained: its digest is of the files as they are.
        """
        import mlflow

        number = self._next()
        files = self.files(version, self.home / f"planted-{number}")
        edit(files)
        key = f"{number:012x}"
        tags = {**version.tags, "trueup.digest": folder_digest(files), "trueup.training-key": key}
        client = mlflow.MlflowClient(self.environment["MLFLOW_TRACKING_URI"])
        made = client.create_model_version(self.model, files.as_uri(), tags=tags)
        return self.version(str(made.version))

    def files(self, version: ModelVersion, to: Path) -> Path:
        """A copy of a version's files at ``to``."""
        import mlflow

        client = mlflow.MlflowClient(self.environment["MLFLOW_TRACKING_URI"])
        source = client.get_model_version_download_uri(self.model, version.version)
        shutil.copytree(Path(source.removeprefix("file://")), to)
        return to

    def version(self, number: str) -> ModelVersion:
        found = self.registry.sweep().models[self.model].version(number)
        assert found is not None
        return found

    # --- measuring and judging ----------------------------------------------------------------------------

    def measure(
        self,
        measurement: str,
        candidate: ModelVersion,
        champion: ModelVersion | None = None,
        *,
        environment: str = "production",
        recorded: str = "",
        traffic: str = "none",
    ) -> Evidence:
        """Evidence of one measurement, made by its shipped template.

        ``recorded`` is the address of a server that recorded requests, and ``traffic`` its release.
        """
        names = (measurement,)
        given = {"environment": environment, "recorded": recorded, "traffic": traffic}
        return self.measured(names, candidate, champion, **given)[measurement]

    def measured(
        self,
        names: Iterable[str],
        candidate: ModelVersion,
        champion: ModelVersion | None = None,
        *,
        environment: str = "production",
        recorded: str = "",
        traffic: str = "none",
    ) -> dict[str, Evidence]:
        """Several measurements at once, as a tick submits them."""
        submitted = {
            name: self._submit_measurement(
                name, candidate, champion, environment=environment, recorded=recorded, traffic=traffic
            )
            for name in names
        }
        found = {}
        for name, action in submitted.items():
            done = self._wait(action)
            assert done.phase == "Succeeded", done
            content = self.registry.evidence(done.outputs["evidence-uri"])
            found[name] = parse_evidence(content, where=action.name)
        return found

    def _submit_measurement(
        self,
        measurement: str,
        candidate: ModelVersion,
        champion: ModelVersion | None,
        *,
        environment: str,
        recorded: str,
        traffic: str,
    ) -> SubmitWorkflow:
        desired, subject = self.desired, Subject(environment=environment, model=self.model)
        case = self.case(candidate, champion, environment=environment, traffic=traffic)
        server = desired.platform.images.server
        model = desired.models[self.model].model
        serving = model.serving_in(environment, desired.environments[environment].runtime)
        wanted = Candidate(candidate, self._pin(candidate), serving, server, "deployment/v1", "version")
        action = submit_measurement(
            self._view(desired, subject, recorded),
            subject,
            wanted,
            self._champion(champion),
            case,
            measurement,
            self._next(),
            "for a test",
        )
        assert isinstance(action, SubmitWorkflow), action
        self._submit(action)
        return action

    def case(
        self,
        candidate: ModelVersion,
        champion: ModelVersion | None = None,
        *,
        environment: str = "production",
        traffic: str = "none",
    ) -> Case:
        desired = self.desired
        subject = Subject(environment=environment, model=self.model)
        image = desired.platform.images.server
        made = case_of(desired, subject, self._pin(candidate), image, self._champion(champion))
        return made._replace(traffic=traffic)

    def judged(
        self,
        evidence: Mapping[str, Evidence] | Evidence,
        candidate: ModelVersion,
        champion: ModelVersion | None = None,
        *,
        environment: str = "production",
        traffic: str = "none",
        waivers: tuple[Waiver, ...] = (),
    ) -> dict[str, GateVerdict]:
        """Gate -> verdict of the environment's shipped policy on this evidence, of the gates it concerns."""
        documents = {evidence.measurement: evidence} if isinstance(evidence, Evidence) else evidence
        desired = self.desired
        policy = desired.policies[desired.environments[environment].policy]
        case = self.case(candidate, champion, environment=environment, traffic=traffic)
        verdicts = judge(policy, documents, case, datetime.now(UTC), waivers)
        return {each.gate: each for each in verdicts if each.metric.partition(".")[0] in documents}

    def _pin(self, version: ModelVersion) -> Pin:
        assert version.digest is not None
        return Pin(registry="default", name=self.model, version=version.version, digest=version.digest)

    def _champion(self, version: ModelVersion | None) -> VerifiedPin | None:
        if version is None:
            return None
        pin = self._pin(version)
        release = f"sha256:{'e' * 64}"
        return VerifiedPin(version=pin.version, digest=pin.digest, release=release, at=version.created)

    def _next(self) -> int:
        return next(self._numbers)

    def _view(self, desired: DesiredState, subject: Subject | None = None, recorded: str = "") -> View:
        registry = self.registry.sweep()
        assert isinstance(registry, RegistrySweep)
        workloads: dict[str, Workload] = {}
        if subject is not None and recorded:
            workloads[str(subject)] = Workload(
                environment=subject.environment,
                model=subject.model,
                namespace=subject.environment,
                release=f"sha256:{'e' * 64}",
                health="Healthy",
                since=datetime.now(UTC),
                recorded=recorded,
            )
        swept = Swept(
            at=datetime.now(UTC),
            registries={"default": registry},
            engine=EngineSweep(),
            forge=ForgeSweep(),
            clusters={"local": ClusterSweep(workloads=workloads)},
        )
        return View(desired, Observed(swept=swept))

    def _submit(self, action: SubmitWorkflow) -> None:
        assert self.engine.submit(
            name=action.name,
            template=action.template,
            commit=action.commit,
            parameters=action.parameters,
            labels=action.labels,
            deadline=PATIENCE,
        )

    def _wait(self, action: SubmitWorkflow) -> WorkflowRun:
        give_up = time.monotonic() + PATIENCE
        while not (run := self.engine.sweep().runs[action.name]).done:
            assert time.monotonic() < give_up, run
            time.sleep(0.05)
        if run.phase != "Succeeded":  # pytest shows it where the test fails
            for task, text in self.engine.logs(action.name):
                print(f"--- {action.name} {task}\n{text}")  # noqa: T201
        return run
