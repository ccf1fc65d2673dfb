"""`reconcile doctor` against a real API server, as the ServiceAccount of deploy/ with exactly its rights.

`make test-cluster` runs these; see tests/servers/cluster.py. Kinds are taken away, so only from a
cluster of ours; every test that needs them installs them first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from ruamel.yaml import YAML

from reconciler.cli.init import init
from reconciler.cli.main import run
from tests.doubles.documents import environment
from tests.servers import argo_driver
from tests.servers.cluster import cached, until

if TYPE_CHECKING:
    from tests.servers.cluster import Cluster

pytestmark = pytest.mark.cluster
DEPLOY = Path(__file__).parents[2] / "deploy"
ACCOUNT, CLUSTER = "trueup-reconciler", "cluster main"
FOLDERS = {
    "runs": ("engine", "lease"),
    "staging": ("serving",),
    "production": ("serving/reader",),
    "argocd": ("argocd",),
}
"""Place -> folders of deploy/ that are applied there. Argo CD applies what runs in production."""

Row = tuple[str, str, str]


class Examined(NamedTuple):
    """What doctor says of a repository whose Platform names these namespaces."""

    cluster: Cluster
    repository: Path
    namespaces: Mapping[str, str]
    said: pytest.CaptureFixture[str]

    def __call__(self) -> tuple[int, dict[str, list[Row]]]:
        self.said.readouterr()
        code = run(["-C", str(self.repository), "doctor", "--output", "json"])
        found: dict[str, list[Row]] = {}
        for each in json.loads(self.said.readouterr().out):
            found.setdefault(each["check"], []).append((each["state"], each["what"], each["hint"]))
        return code, found

    def failing(self) -> dict[str, list[Row]]:
        """The failures alone."""
        code, found = self()
        failed = {check: [row for row in rows if row[0] == "fail"] for check, rows in found.items()}
        assert (code == 1) == any(failed.values())
        return {check: rows for check, rows in failed.items() if rows}


class Stage(NamedTuple):
    """Everything is installed and granted; a repository says so."""

    namespaces: Mapping[str, str]
    repository: Path
    kubeconfig: Path


@pytest.fixture(scope="module")
def stage(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    if not cluster.processes:
        pytest.skip("kinds are not taken away from a cluster that is not ours")
    folder = tmp_path_factory.mktemp("doctor")
    for file in kinds(folder).values():
        cluster.install(file)
    with ExitStack() as stack:
        names = {place: stack.enter_context(cluster.namespace()) for place in FOLDERS}
        cluster.kubectl("--namespace", names["runs"], "create", "serviceaccount", ACCOUNT)
        for place, folders in FOLDERS.items():
            for part in folders:
                grant(cluster, part, names[place], names["runs"])
        token = cluster.token(names["runs"], ACCOUNT)
        kubeconfig = cluster.kubeconfig_of(token, folder / "kubeconfig")
        (folder / "gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("GIT_CONFIG_GLOBAL", str(folder / "gitconfig"))
            init(folder / "models", say=lambda _: None)
        for path, text in documents(names).items():
            (folder / "models" / path).parent.mkdir(exist_ok=True)
            (folder / "models" / path).write_text(text)
        yield Stage(names, folder / "models", kubeconfig)
    cluster.kubectl("delete", "crd", "workflowtaskresults.argoproj.io")


@pytest.fixture
def examined(
    cluster: Cluster,
    stage: Stage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Examined:
    monkeypatch.setenv("KUBECONFIG", str(stage.kubeconfig))
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    for name in ("TRUEUP_REPOSITORY", "TRUEUP_PLATFORM", "TRUEUP_HOME"):
        monkeypatch.delenv(name, raising=False)
    made = Examined(cluster, stage.repository, stage.namespaces, capsys)
    until(lambda: made.failing() == {})
    return made


def kinds(folder: Path) -> dict[str, Path]:
    """Kind -> where its CustomResourceDefinition is."""
    results = folder / "results.yaml"
    results.write_text(
        argo_driver.CRD.read_text()
        .replace("workflows", "workflowtaskresults")
        .replace("Workflow", "WorkflowTaskResult")
        .replace("singular: workflow, shortNames: [wf]", "singular: workflowtaskresult")
    )
    return {
        "workflows": argo_driver.CRD,
        "workflowtaskresults": results,
        "applications": cached() / "argocd",
    }


def grant(cluster: Cluster, folder: str, namespace: str, home: str) -> None:
    """The Roles of a folder of deploy/, for the account in ``home``."""
    built = YAML(typ="safe", pure=True).load_all(cluster.kubectl("kustomize", str(DEPLOY / folder)))
    parts: list[dict[str, Any]] = [each for each in built if each["kind"] in ("Role", "RoleBinding")]
    for part in parts:
        part["metadata"]["namespace"] = namespace
        for subject in part.get("subjects", ()):
            subject["namespace"] = home
    cluster.apply(*json.loads(json.dumps(parts)))


def documents(names: Mapping[str, str]) -> dict[str, str]:
    platform = f"""\
apiVersion: trueup.dev/v1
kind: Platform
engine: {{type: argo, namespace: {names["runs"]}, repository: "https://git.example.org/ml/models.git"}}
clusters:
  main:
    type: kubernetes
    namespaces: [{names["staging"]}, {names["production"]}]
    argocd: {names["argocd"]}
"""
    canaries = {"renderer": "rollout/v1", "prometheus": "http://prometheus.monitoring:9090"}
    production = {"namespace": names["production"], "sync": "argocd", "runtime": canaries}
    return {
        "environments/platform.yaml": platform,
        **environment("staging", cluster="main", namespace=names["staging"]),
        **environment("production", promotes_from=("staging",), cluster="main", **production),
    }


def granted(folder: str) -> Row:
    return "ok", f"everything that {folder} grants is allowed", ""


def test_with_the_rights_of_deploy_everything_is_right(examined: Examined) -> None:
    code, found = examined()
    assert code == 0
    (version, rollouts, *rest), engine = found[CLUSTER], found["engine"]
    assert version[:2] == engine[0][:2]
    assert version[0] == "ok"
    assert version[1].startswith("Kubernetes v1.")
    kinds = "rollouts v1alpha1, analysistemplates v1alpha1, analysisruns v1alpha1"
    assert rollouts == ("ok", f"Argo Rollouts is installed: {kinds}", "")
    assert rest == [
        granted("deploy/serving"),
        granted("deploy/serving/reader"),
        ("ok", "Argo CD is installed: applications v1alpha1", ""),
        granted("deploy/argocd"),
        ("ok", "is read: 0 workloads", ""),
    ]
    assert engine[1:] == [
        ("ok", "Argo Workflows is installed: workflows v1alpha1, workflowtaskresults v1alpha1", ""),
        granted("deploy/engine"),
        ("ok", "is read: 0 runs", ""),
    ]
    assert found["lease"] == [granted("deploy/lease")]


@pytest.mark.parametrize(
    ("place", "role", "resource", "check", "right", "folder"),
    [
        ("runs", "trueup-engine", "workflows", "engine", "workflows.argoproj.io", "deploy/engine"),
        ("runs", "trueup-engine", "pods/log", "engine", "pods/log", "deploy/engine"),
        ("runs", "trueup-lease", "leases", "lease", "leases.coordination.k8s.io", "deploy/lease"),
        ("staging", "trueup-writer", "deployments", CLUSTER, "deployments.apps", "deploy/serving"),
        ("production", "trueup-reader", "replicasets", CLUSTER, "replicasets.apps", "deploy/serving/reader"),
        ("argocd", "trueup-applications", "applications", CLUSTER, "applications.argoproj.io", "deploy/argocd"),
    ],
)
def test_one_rule_less_is_named_and_nothing_else(
    examined: Examined, place: str, role: str, resource: str, check: str, right: str, folder: str
) -> None:
    cluster, namespace = examined.cluster, examined.namespaces[place]
    there = cluster.get("role", role, "--namespace", namespace)
    del there["metadata"]["resourceVersion"]  # it is written twice
    (taken,) = (rule for rule in there["rules"] if rule["resources"] == [resource])
    less = there | {"rules": [rule for rule in there["rules"] if rule != taken]}
    cluster.kubectl("replace", "--filename=-", stdin=json.dumps(less))
    try:
        until(lambda: examined.failing() != {})
        ((where, (first, *others)),) = examined.failing().items()
    finally:
        cluster.kubectl("replace", "--filename=-", stdin=json.dumps(there))
    state, what, hint = first
    assert (where, state, hint) == (check, "fail", f"apply {folder} in that namespace")
    verbs, _, of = what.removeprefix("not allowed there: ").rpartition(" ")
    assert sorted(verbs.split(", ")) == sorted(taken["verbs"])
    assert of == right
    assert all(f"the namespace {namespace} was not read" in row[1] for row in others)


@pytest.mark.parametrize(
    ("kind", "check", "product", "version"),
    [
        ("workflows", "engine", "Argo Workflows", "4.0"),
        ("workflowtaskresults", "engine", "Argo Workflows", "4.0"),
        ("applications", CLUSTER, "Argo CD", "3.0 or newer"),
    ],
)
def test_a_kind_that_is_not_there_is_named(
    examined: Examined, tmp_path: Path, kind: str, check: str, product: str, version: str
) -> None:
    examined.cluster.kubectl("delete", "crd", f"{kind}.argoproj.io")
    try:
        until(lambda: examined.failing() != {})
        ((where, (first, *others)),) = examined.failing().items()
    finally:
        examined.cluster.install(kinds(tmp_path)[kind])
    what = f"{product} is not installed: the cluster does not serve v1alpha1 of {kind}.argoproj.io"
    hint = f"install {product} {version}: its CustomResourceDefinitions and its controller"
    assert (where, first) == (check, ("fail", what, hint))
    assert all(f"{examined.namespaces['argocd']} was not read" in row[1] for row in others)
