"""Every real server at once, set up as docs/install.md says, and who acts there: trueup, people, the engine.

tests/integration/test_platform_story.py tells its story on this. trueup is the command ``reconcile`` as a
process of its own, with the environment that deploy/ gives its pod, as the ServiceAccount that deploy/ makes.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import create_engine, inspect, text

from reconciler.adapters.git_source import GitSource
from reconciler.adapters.kubernetes.argo_engine import WORKFLOW
from reconciler.adapters.kubernetes.client import connect
from reconciler.adapters.kubernetes.cluster import WORKLOADS
from tests.contract.forge_worlds import GiteaWorld, git
from tests.integration.exposure import Exposure
from tests.servers import argo_driver, prometheus
from tests.servers.cluster import Cluster, until
from tests.servers.gitea import Gitea
from tests.servers.mlflow import mlflow_server, postgresql

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DEPLOY = ROOT / "deploy"
RUNS = "trueup-runs"
RECONCILER = "system:serviceaccount:trueup:trueup-reconciler"
ADMISSION = "trueup/admission"
TICKS = 40
_, ROLLOUT = WORKLOADS
QUIET = {"DO_NOT_TRACK": "1", "DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
PLAIN = {"NO_COLOR": "1", "COLUMNS": "110", "TZ": "UTC", "PYTHONUNBUFFERED": "1"}


class Said(NamedTuple):
    """A command of trueup or of a person: what it printed, and how it ended."""

    command: str
    out: str
    err: str
    code: int

    def __str__(self) -> str:
        return f"$ {self.command}    # exit code {self.code}\n{self.out}{self.err}"


class Stage:
    """``env`` is the whole environment of trueup; ``said`` is all that its commands and people's printed."""

    def __init__(
        self,
        folder: Path,
        forge: GiteaWorld,
        cluster: Cluster,
        metrics: prometheus.Prometheus,
        database: str,
    ) -> None:
        self.folder, self.forge, self.cluster, self.prometheus = folder, forge, cluster, metrics
        self._database = database
        self.env: dict[str, str] = {}
        self.said: list[Said] = []
        self.exposure = Exposure()
        self._branches = 0
        self._client = connect()  # as the administrator

    # --- trueup -----------------------------------------------------------------------------------------------

    def tick(self) -> str:
        """One tick; what it said. It must not fail."""
        return self.trueup()

    def trueup(self, *arguments: str) -> str:
        """``reconcile ARGUMENTS`` as the pod of the CronJob would run it: no clone, an empty folder."""
        empty = self.folder / "empty"
        empty.mkdir(exist_ok=True)
        said = self._run(arguments, empty, self.env)
        assert said.code == 0, self.story(said)
        assert list(empty.iterdir()) == []
        return said.out + said.err

    def until(self, wanted: str, ticks: int = TICKS) -> str:
        """Tick, whenever the workflows are done, until one says ``wanted`` (a regular expression)."""
        for _ in range(ticks):
            self.workflows_done()
            said = self.tick()
            if re.search(wanted, said):
                return said
        raise AssertionError(f"no tick of {ticks} said {wanted!r}\n{self.story(self.said[-1])}")

    def story(self, last: Said) -> str:
        """For who reads a failure: what was said before it in short, and the last words in full."""
        headings = [f"  {s.command}: {(s.out + s.err).strip().splitlines()[-1:]}" for s in self.said[-30:]]
        where = f"so far (all of it is in {self.folder / 'said.log'}):"
        return "\n".join((where, *headings, "and the last one:", str(last)))

    def workflows_done(self) -> None:
        def done() -> bool:
            return all("finishedAt" in (w.get("status") or {}) for w in self.workflows())

        until(done)

    def workflows(self) -> list[dict[str, Any]]:
        return self._client.list(WORKFLOW, RUNS)

    # --- people -----------------------------------------------------------------------------------------------

    def person(self, name: str, *arguments: str) -> str:
        """``reconcile ARGUMENTS`` in the clone, with this person's own token on the forge."""
        own = {"TRUEUP_TOKEN": self.forge.tokens[name], "TRUEUP_CACHE": str(self.folder / "persons-cache")}
        unset = ("TRUEUP_PLATFORM", "TRUEUP_REPOSITORY", "KUBECONFIG")
        env = {key: value for key, value in self.env.items() if key not in unset} | own
        said = self._run(arguments, self.forge.clone, env)
        assert said.code == 0, self.story(said)
        return said.out

    def change(self, path: str, edit: Callable[[str], str], title: str) -> int:
        """A person changes a file of main by a pull request, which the check admits; its number."""
        self._branches += 1
        branch = f"change-{self._branches}"
        before = self.forge.show(f"main:{path}")
        after = edit(before)
        assert after != before, f"{title}: nothing changes in {path}"
        head = self.forge.push({path: f"{after}\n"}, branch)
        number = int(self.person("Ada", "pr", "open", branch, "--title", title).strip().removeprefix("#"))
        self.person("Ada", "admit")
        # What continuous integration does with that exit code.
        wish = {"context": ADMISSION, "state": "success", "description": "admitted"}
        status = f"/repos/{self.forge.repository}/statuses/{head}"
        self.forge.admin.post(status, json=wish).raise_for_status()
        self.person("Ada", "pr", "merge", str(number))
        return number

    def pull_request(self, branch: str) -> dict[str, Any]:
        """The newest pull request of a branch, as Gitea has it."""
        found = [pull for pull in self.pull_requests() if pull["head"]["label"] == branch]
        assert found, f"there is no pull request of {branch}\n{self.story(self.said[-1])}"
        path = f"/repos/{self.forge.repository}/pulls/{max(pull['number'] for pull in found)}"
        pull: dict[str, Any] = self.forge.admin.get(path).raise_for_status().json()  # a list says less
        return pull

    def pull_requests(self) -> list[dict[str, Any]]:
        pages = self.forge.admin.get(f"/repos/{self.forge.repository}/pulls", params={"state": "all"})
        found: list[dict[str, Any]] = pages.raise_for_status().json()
        return found

    def _run(self, arguments: tuple[str, ...], folder: Path, env: Mapping[str, str]) -> Said:
        with self.exposure.watched():
            done = subprocess.run(
                [BIN / "reconcile", *arguments],
                cwd=folder,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
        said = Said(" ".join(("reconcile", *arguments)), done.stdout, done.stderr, done.returncode)
        self.said.append(said)
        with (self.folder / "said.log").open("a") as log:
            log.write(f"{datetime.now(UTC):%H:%M:%S} {said}\n")
        return said

    def registered(self) -> Iterator[tuple[str, str]]:
        """Every row of every table that MLflow has, as text, by the table's name."""
        with create_engine(self._database).connect() as database:
            for table in inspect(database).get_table_names():
                rows = database.execute(text(f'SELECT row_to_json(t)::text FROM "{table}" t'))
                yield table, "\n".join(row[0] for row in rows)

    # --- the cluster ------------------------------------------------------------------------------------------

    def rollout(self) -> dict[str, Any]:
        """Production's, with a status that is of its present spec; else without one."""
        item = self._client.get(ROLLOUT, "production", "digits")
        assert item is not None, "production has no Rollout"
        status = item.get("status") or {}
        current = str(status.get("observedGeneration")) == str(item["metadata"]["generation"])
        return item | {"status": status if current else {}}

    def rollout_shows(self, **wanted: Any) -> None:
        """Wait until fields of its status have these values."""
        try:
            until(lambda: wanted.items() <= self.rollout()["status"].items())
        except RuntimeError as error:
            raise AssertionError(f"{error}: {wanted}, but {self.rollout()['status']}") from None

    def person_promotes(self) -> None:
        """`kubectl argo rollouts promote`."""
        patch = json.dumps({"status": {"pauseConditions": None}})
        where = ("rollout", "digits", "--namespace=production", "--subresource=status")
        self.cluster.kubectl("patch", *where, "--type=merge", f"--patch={patch}")


# --- setting up -----------------------------------------------------------------------------------------------


@contextmanager
def platform(folder: Path, gitea: Gitea, cluster: Cluster) -> Iterator[Stage]:
    """A repository with the example model, and everything that its Platform names."""
    with ExitStack() as stack:
        database = stack.enter_context(postgresql())
        artifacts, log = str(folder / "artifacts"), folder / "mlflow.log"
        mlflow = stack.enter_context(mlflow_server(database, artifacts, log))
        metrics = stack.enter_context(prometheus.running())
        forge = GiteaWorld(folder, gitea, _example(folder))
        stage = Stage(folder, forge, cluster, metrics, database)
        mounted = {
            "/etc/trueup": folder / "etc",
            "/var/run/secrets/trueup": folder / "secrets",
            "/var/cache/trueup": folder / "cache",
            "/tmp": folder / "tmp",
        }
        for place in mounted.values():
            place.mkdir(exist_ok=True)
        files = _documents(forge.show, forge, mounted["/var/run/secrets/trueup"] / "token", metrics.url)
        forge.push(files)
        forge.protect(enable_status_check=True, status_check_contexts=[ADMISSION])
        argo_driver.install(cluster)
        password = secrets.token_urlsafe(24)
        _deploy(folder, cluster, forge, mlflow, password, files["environments/platform.yaml"])
        stage.env = _environment(cluster, mounted) | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "KUBECONFIG": str(
                cluster.kubeconfig_of(cluster.token("trueup", "trueup-reconciler"), folder / "kubeconfig")
            ),
        }
        _expose(stage, password)
        registry = {name: value for name, value in stage.env.items() if name.startswith("MLFLOW_")}
        steps = {
            **registry,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder / "tmp"),
            "TRUEUP_CACHE": str(folder / "steps-cache"),
            **QUIET,
        }
        checkout = _checkout(forge, folder / "engine-cache")
        controller = argo_driver.ArgoDriver(connect(), RUNS, home=folder / "argo", env=steps, checkout=checkout)
        stack.enter_context(controller)
        yield stage


def _example(folder: Path) -> dict[str, str]:
    """The files that `reconcile init --example` writes; the data goes to a DVC remote below ``folder``."""
    env = {**os.environ, "GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "Ada"}
    env |= {"GIT_CONFIG_KEY_1": "user.email", "GIT_CONFIG_VALUE_1": "ada@example.org"}
    made = folder / "example"
    subprocess.run([BIN / "reconcile", "init", made, "--example"], env=env, check=True, capture_output=True)
    names = git(made, "ls-files").splitlines()
    return {name: (made / name).read_text() for name in names}


def _documents(show: Callable[[str], str], forge: GiteaWorld, token: Path, metrics: str) -> dict[str, str]:
    """The example's Platform, environments and model, changed to these servers and to seconds."""
    platform = f"""\
apiVersion: trueup.dev/v1
kind: Platform
registries:
  default:
    type: mlflow
    trackingUriEnv: MLFLOW_TRACKING_URI
engine:
  type: argo
  namespace: {RUNS}
  repository: {forge.url}/{forge.repository}.git
  keep: 0s
forge:
  type: gitea
  url: {forge.url}
  repository: {forge.repository}
  token: {{file: {token}}}
clusters:
  main:
    type: kubernetes
    namespaces: [staging, production]
"""
    serving = """
serving:
  replicas: 10
  canary:
    steps:
      - {weight: 10, pause: 1s}
      - {weight: 50, pause: manual}
    analysis: {measurements: 2, interval: 1s}
  overrides:
    staging:
      strategy: rolling
      autoscaling: {min: 2, max: 4}
"""
    files = {"environments/platform.yaml": platform}
    for name in ("staging", "production"):
        path = f"environments/{name}/environment.yaml"
        text = show(f"main:{path}").replace("cluster: local", "cluster: main")
        files[path] = re.sub(r"(?m)^( *soak:) .*", r"\1 2s", re.sub(r"(?m)^( *for:) .*", r"\1 3s", text)) + "\n"
    runtime = f"runtime:\n  renderer: rollout/v1\n  prometheus: {metrics}\n"
    files["environments/production/environment.yaml"] += runtime
    model = "models/digits/model.yaml"
    return files | {model: show(f"main:{model}") + serving}


def _deploy(
    folder: Path, cluster: Cluster, forge: GiteaWorld, mlflow: str, password: str, platform: str
) -> None:
    """deploy/example with what it says to be an example set, and the secrets of docs/install.md."""
    copy = folder / "deploy"
    shutil.copytree(DEPLOY, copy)
    settings = {
        "https://git.example.org/ml/models.git": f"{forge.url}/{forge.repository}.git",
        "http://mlflow.mlflow.svc:5000": mlflow,
    }
    for path in copy.glob("example/**/*.yaml"):
        text = path.read_text()
        for old, new in settings.items():
            text = text.replace(old, new)
        path.write_text(text)
    (copy / "example/reconciler/platform.yaml").write_text(platform)
    # Here trueup applies production too.
    production = copy / "example/production/kustomization.yaml"
    production.write_text(production.read_text().replace("../../serving/reader", "../../serving"))
    # The test makes the ticks.
    reconciler = copy / "example/reconciler/kustomization.yaml"
    suspended = '[{"op": "add", "path": "/spec/suspend", "value": true}]'
    patches = f"patches:\n  - target: {{kind: CronJob}}\n    patch: '{suspended}'\n"
    reconciler.write_text(reconciler.read_text() + patches)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--kustomize", str(copy / "example"))
    account = {"MLFLOW_TRACKING_USERNAME": "trueup", "MLFLOW_TRACKING_PASSWORD": password}
    for namespace, name, values in (
        ("trueup", "trueup-forge", {"token": forge.tokens["trueup"]}),
        ("trueup", "trueup-mlflow", account),
        (RUNS, "trueup-mlflow", account),
        (RUNS, "trueup-git", {"username": "trueup", "password": forge.tokens["trueup"]}),
        ("staging", "trueup-serving", account),
        ("production", "trueup-serving", account),
    ):
        metadata = {"name": name, "namespace": namespace}
        cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values})


def _environment(cluster: Cluster, mounted: Mapping[str, Path]) -> dict[str, str]:
    """The environment of the CronJob's container, its volumes in the folders of ``mounted``."""
    pod = cluster.get("cronjob", "trueup-reconciler", "--namespace=trueup")["spec"]["jobTemplate"]["spec"]
    (container,) = pod["template"]["spec"]["containers"]
    volumes = {each["name"]: each for each in pod["template"]["spec"]["volumes"]}

    def found(kind: str, name: str) -> dict[str, str]:
        data = cluster.get(kind, name, "--namespace=trueup").get("data", {})
        return {k: base64.b64decode(v).decode() if kind == "secret" else v for k, v in data.items()}

    for mount in container["volumeMounts"]:
        volume, place = volumes[mount["name"]], mounted[mount["mountPath"]]
        for kind, key in (("configMap", "name"), ("secret", "secretName")):
            for name, content in (found(kind.lower(), volume[kind][key]) if kind in volume else {}).items():
                (place / name).touch(0o600)
                (place / name).write_text(content)
    env = dict(PLAIN)
    for entry in container["env"]:
        value = entry.get("value")
        for kind, source in (entry.get("valueFrom") or {}).items():
            value = found(kind.removesuffix("KeyRef").lower(), source["name"]).get(source["key"])
            assert value is not None or source.get("optional"), f"{source} is not there"
        if value is not None:
            mount = next((path for path in mounted if f"{value}/".startswith(f"{path}/")), None)
            env[entry["name"]] = f"{mounted[mount]}{value.removeprefix(mount)}" if mount else value
    return env


def _expose(stage: Stage, password: str) -> None:
    """The planted secrets, each in every form in which it could come to light."""
    tokens = stage.forge.tokens
    for name, value in (
        ("trueup's token", tokens["trueup"]),
        ("Ada's token", tokens["Ada"]),
        ("Grace's token", tokens["Grace"]),
        ("MLflow's password", password),
    ):
        stage.exposure.plant(name, value)


def _checkout(forge: GiteaWorld, folder: Path) -> Callable[[str, Path], None]:
    """A commit's files, as a pod gets them from a Git artifact: with a token that no command line shows."""
    fetched = forge.forge()
    source = GitSource(fetched.remote, folder, credentials=fetched.credentials)

    def checkout(commit: str, destination: Path) -> None:
        source.head()
        source.checkout(commit, destination)

    return checkout
