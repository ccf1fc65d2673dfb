"""deploy/: what an administrator applies, read as Kubernetes, Argo CD and a container builder would."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ruamel.yaml import YAML

from reconciler.cli.waking import address
from reconciler.core.documents import rendered_folder
from reconciler.core.platform import Platform
from reconciler.core.strict_yaml import read
from reconciler.core.validation import validate
from reconciler.planning.renderers import RENDERERS
from tests.kubernetes_types import complaints

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OTHERS = {"kustomize.config.k8s.io", "argoproj.io", "trueup.dev"}
"""API groups of which the Kubernetes client has no types."""


class Item(NamedTuple):
    path: str
    item: dict[str, Any]

    @property
    def group(self) -> str:
        return str(self.item["apiVersion"]).rpartition("/")[0]


def items() -> Iterator[Item]:
    for path in sorted(DEPLOY.rglob("*.yaml")):
        for document in YAML(typ="safe", pure=True).load_all(path):
            yield Item(path.relative_to(DEPLOY).as_posix(), document)


ITEMS = list(items())


def only(kind: str, path: str = "") -> dict[str, Any]:
    (found,) = (i.item for i in ITEMS if i.item["kind"] == kind and i.path.startswith(path))
    return found


def pod() -> dict[str, Any]:
    """The reconciler's."""
    spec: dict[str, Any] = only("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return spec


def plural(kind: str) -> str:
    return kind.lower().removesuffix("y") + "ies" if kind.endswith("y") else kind.lower() + "s"


EMITTED = frozenset[tuple[str, str]]().union(*(renderer.kinds for renderer in RENDERERS.values()))


# --- Kubernetes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(ITEMS)), ids=[f"{i.path}:{i.item['kind']}" for i in ITEMS])
def test_kubernetes_knows_every_field(number: int) -> None:
    path, item = ITEMS[number]
    if ITEMS[number].group not in OTHERS:
        assert complaints(item) == []
    elif item["kind"] == "Platform":
        text = (DEPLOY / path).read_bytes()
        assert isinstance(validate(Platform, read(text, path)), Platform)
    elif item["kind"] == "Kustomization":
        folder = (DEPLOY / path).parent
        assert [r for r in item["resources"] if not (folder / r).exists()] == []
    else:
        assert item["kind"] in ("AppProject", "ApplicationSet")


def test_every_manifest_is_in_a_kustomization() -> None:
    named = {
        (DEPLOY / path).parent / resource
        for path, item in ITEMS
        if item["kind"] == "Kustomization"
        for resource in [
            *item["resources"],
            *(file for made in item.get("configMapGenerator", ()) for file in made.get("files", ())),
        ]
    }
    named |= {folder / "kustomization.yaml" for folder in named}
    tops = {DEPLOY / top / "kustomization.yaml" for top in ("argocd", "example", "watch")}
    known = {path.resolve() for path in named | tops}
    assert [path for path, _ in ITEMS if (DEPLOY / path).resolve() not in known] == []


def test_no_secret_is_written_down() -> None:
    assert [path for path, item in ITEMS if item["kind"] == "Secret" or "secretGenerator" in item] == []


def test_ticks_do_not_overlap_and_a_failed_one_is_a_failed_job() -> None:
    cron = only("CronJob")["spec"]
    job = cron["jobTemplate"]["spec"]
    assert (cron["schedule"], cron["concurrencyPolicy"]) == ("*/2 * * * *", "Forbid")
    assert cron["startingDeadlineSeconds"] < 120
    assert (job["backoffLimit"], pod()["restartPolicy"]) == (0, "Never")  # which podFailurePolicy asks for
    assert job["activeDeadlineSeconds"] > pod()["terminationGracePeriodSeconds"]
    ignored, failed = job["podFailurePolicy"]["rules"]
    assert ignored["onPodConditions"][0]["type"] == "DisruptionTarget"
    assert failed["onExitCodes"] == {
        "containerName": pod()["containers"][0]["name"],
        "operator": "NotIn",
        "values": [0],
    }


def test_the_reconcilers_pod_is_restricted() -> None:
    (container,) = pod()["containers"]
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]) == {"requests", "limits"}
    mounts = {m["name"] for m in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod()["volumes"]}
    env = {e["name"]: e for e in container["env"]}
    writable = [m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")]
    assert env["TRUEUP_CACHE"]["value"] in writable
    assert env["HOME"]["value"] in writable


def test_the_reconciler_that_stays_is_the_same_pod_and_listens_where_it_is_called() -> None:
    deployment, service = only("Deployment")["spec"], only("Service", "watch")["spec"]
    stays = deployment["template"]["spec"]
    (container,) = stays["containers"]
    (ticks,) = pod()["containers"]
    added = {"args", "ports", "readinessProbe"}
    mount = {"name": "wake", "mountPath": "/var/run/secrets/trueup-wake", "readOnly": True}
    assert container.keys() - ticks.keys() == added
    assert [m for m in container["volumeMounts"] if m not in ticks["volumeMounts"]] == [mount]
    assert [v["name"] for v in stays["volumes"] if v not in pod()["volumes"]] == ["wake"]
    same = {"volumeMounts", *added}
    assert {k: v for k, v in container.items() if k not in same} == {
        k: v for k, v in ticks.items() if k not in same
    }
    apart = {"containers", "volumes", "restartPolicy"}
    assert {k: v for k, v in stays.items() if k not in apart} == {
        k: v for k, v in pod().items() if k not in apart
    }
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    assert service["selector"].items() <= deployment["template"]["metadata"]["labels"].items()
    assert address(container["args"][-1]) == ("0.0.0.0", service["ports"][0]["port"])
    assert container["ports"] == [{"name": "wake", "containerPort": service["ports"][0]["port"]}]


def test_the_image_of_the_example_is_pinned() -> None:
    (image,) = next(i.item for i in ITEMS if i.path == "example/reconciler/kustomization.yaml")["images"]
    assert image["digest"].startswith("sha256:")
    assert image["name"] == pod()["containers"][0]["image"]


def test_what_the_platform_reads_is_mounted() -> None:
    platform = only("Platform")
    container = pod()["containers"][0]
    paths = [mount["mountPath"] for mount in container["volumeMounts"]]
    env = {entry["name"] for entry in container["env"]}
    assert str(Path(platform["forge"]["token"]["file"]).parent) in paths
    assert {registry["trackingUriEnv"] for registry in platform["registries"].values()} <= env


# --- rights -----------------------------------------------------------------------------------------------


def rights(path: str) -> set[tuple[str, str, str]]:
    """(API group, resource, verb) of the one Role in a file."""
    return {
        (group, resource, verb)
        for rule in only("Role", path)["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_reconciler_may_write_what_it_renders_and_nothing_else() -> None:
    wanted = {(group, plural(kind), verb) for group, kind in EMITTED for verb in ("create", "delete", "patch")}
    assert rights("serving/writer/") == wanted


def test_it_may_read_what_it_renders_and_what_becomes_of_it() -> None:
    becomes = {
        ("", "pods", "list"),
        ("", "pods/log", "get"),
        ("apps", "replicasets", "list"),
        ("argoproj.io", "analysisruns", "list"),
    }
    wanted = {(group, plural(kind), verb) for group, kind in EMITTED for verb in ("get", "list")}
    assert rights("serving/reader/") == wanted | becomes


def test_it_may_run_workflows_and_hold_its_lease() -> None:
    workflows = {("argoproj.io", "workflows", verb) for verb in ("create", "delete", "get", "list", "patch")}
    assert rights("engine/reconciler.yaml") == workflows | {("", "pods", "list"), ("", "pods/log", "get")}
    leases = {("coordination.k8s.io", "leases", verb) for verb in ("create", "get", "patch")}
    assert rights("lease/") == leases


def test_its_lease_is_where_it_looks_for_it() -> None:
    """Beside the workflows, as bootstrap.connect_lease has it."""
    holders = [
        i for i in ITEMS if i.path.startswith("example/") and "../../lease" in i.item.get("resources", ())
    ]
    assert [i.item["namespace"] for i in holders] == [only("Platform")["engine"]["namespace"]]


def test_steps_may_only_report() -> None:
    assert rights("engine/steps.yaml") == {
        ("argoproj.io", "workflowtaskresults", verb) for verb in ("create", "patch")
    }
    accounts = {
        i.item["metadata"]["name"]
        for i in ITEMS
        if i.path == "engine/steps.yaml" and i.item["kind"] == "ServiceAccount"
    }
    texts = [path.read_text() for path in (ROOT / "workflows/rendered").glob("*.yaml")]
    used = {name for text in texts for name in re.findall(r"serviceAccountName: (\S+)", text)}
    assert accounts == {"trueup-train", "trueup-record"} >= used


def test_nothing_is_allowed_everywhere() -> None:
    assert [path for path, item in ITEMS if item["kind"].startswith("ClusterRole")] == []
    roles = [(path, str(item["rules"])) for path, item in ITEMS if item["kind"] == "Role"]
    assert [path for path, rules in roles if "*" in rules or "secrets" in rules] == []


@pytest.mark.parametrize("number", [n for n, i in enumerate(ITEMS) if i.item["kind"] == "RoleBinding"])
def test_every_right_goes_to_an_account_that_is_there(number: int) -> None:
    path, binding = ITEMS[number]
    roles = {i.item["metadata"]["name"] for i in ITEMS if i.path == path and i.item["kind"] == "Role"}
    accounts = {i.item["metadata"]["name"] for i in ITEMS if i.item["kind"] == "ServiceAccount"}
    assert binding["roleRef"]["name"] in roles
    assert {subject["name"] for subject in binding["subjects"]} <= accounts


# --- Argo CD ----------------------------------------------------------------------------------------------


def test_argo_cd_may_write_what_is_rendered_and_nothing_else() -> None:
    project = only("AppProject")["spec"]
    allowed = [(entry["group"], entry["kind"]) for entry in project["namespaceResourceWhitelist"]]
    assert allowed == sorted(EMITTED)
    assert project["clusterResourceWhitelist"] == []
    assert "*" not in str(project)


def test_every_folder_of_manifests_is_an_application() -> None:
    spec = only("ApplicationSet")["spec"]
    (generator,) = spec["generators"]
    taken = [d["path"] for d in generator["git"]["directories"] if not d.get("exclude")]
    left = [d["path"] for d in generator["git"]["directories"] if d.get("exclude")]

    def synced(folder: str) -> bool:
        """As the git generator does: `*` is one part of a path."""

        def match(pattern: str) -> bool:
            parts = pattern.split("/")
            return len(parts) == folder.count("/") + 1 and all(map(fnmatch, folder.split("/"), parts))

        return any(map(match, taken)) and not any(map(match, left))

    assert synced(rendered_folder("production", "digits"))
    assert not synced(rendered_folder("staging", "digits"))
    assert not synced("environments/production/releases")
    assert not synced(rendered_folder("production", "digits") + "/more")


def test_the_application_names_environment_and_model() -> None:
    template = only("ApplicationSet")["spec"]["template"]
    segments = rendered_folder("production", "digits").split("/")
    name = template["metadata"]["name"].replace("{{.path.basename}}", segments[-1])
    found = re.fullmatch(r"trueup-{{index .path.segments (\d)}}-digits", name)
    assert found is not None
    assert segments[int(found[1])] == "production"
    assert template["spec"]["project"] == only("AppProject")["metadata"]["name"]
    assert template["spec"]["source"]["repoURL"] in only("AppProject")["spec"]["sourceRepos"]


def test_argo_cd_leaves_weights_and_scales_to_who_sets_them() -> None:
    spec = only("ApplicationSet")["spec"]["template"]["spec"]
    ignored = {(i["group"], i["kind"]): set(i["managedFieldsManagers"]) for i in spec["ignoreDifferences"]}
    assert all(kind in EMITTED for kind in ignored)
    assert "kube-controller-manager" in ignored["apps", "Deployment"] & ignored["argoproj.io", "Rollout"]
    assert {kind for kind, managers in ignored.items() if "rollouts-controller" in managers} == {
        ("argoproj.io", "Rollout"),
        ("", "Service"),
    }
    assert "RespectIgnoreDifferences=true" in spec["syncPolicy"]["syncOptions"]


# --- images -----------------------------------------------------------------------------------------------

TARGETS = {
    "reconciler": "reconcile",
    "steps-cpu": "reconcile-step",
    "steps-gpu": "reconcile-step",
    "server": "reconcile-server",
}


class Stage(NamedTuple):
    base: str
    lines: list[str]


def stages() -> dict[str, Stage]:
    """Name -> what it starts from and its instructions, one a line."""
    text = re.sub(r"\\\n\s*", " ", (DEPLOY / "Containerfile").read_text())
    found: dict[str, Stage] = {}
    current: list[str] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if match := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            current = []
            found[match[2]] = Stage(match[1], current)
        else:
            current.append(line)
    return found


STAGES = stages()


def lineage(name: str) -> Iterator[str]:
    """Every instruction of a stage, and of what it starts from, newest first."""
    while name in STAGES:
        yield from reversed(STAGES[name].lines)
        name = STAGES[name].base


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_its_command_as_nobody(target: str) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    lines = list(lineage(target))
    assert TARGETS[target] in scripts
    assert next(line for line in lines if line.startswith("ENTRYPOINT")) == f'ENTRYPOINT ["{TARGETS[target]}"]'
    assert next(line for line in lines if line.startswith("USER")) == "USER 65532:65532"


def test_every_stage_starts_from_another_or_from_the_builders_choice() -> None:
    known = {"${PYTHON_IMAGE}"}
    for name, stage in STAGES.items():
        assert stage.base in known, name
        known.add(name)
    copied = {m for stage in STAGES.values() for line in stage.lines for m in re.findall(r"--from=(\S+)", line)}
    assert copied <= STAGES.keys()
    assert set(TARGETS) <= STAGES.keys()


def test_only_what_is_locked_is_installed() -> None:
    installs = [
        part
        for stage in STAGES.values()
        for line in stage.lines
        for part in line.split("&&")
        if re.search(r"pip (install|wheel)", part)
    ]
    assert len(installs) == 8
    assert [i for i in installs if "--require-hashes" not in i and "--no-deps" not in i] == []


@pytest.mark.parametrize("lock", sorted((DEPLOY / "locks").iterdir()), ids=lambda path: path.name)
def test_a_lock_is_a_part_of_the_one_lock(lock: Path) -> None:
    whole = entries(ROOT / "requirements.lock")
    part = entries(lock)
    assert part
    assert [name for name in part if part[name] != whole.get(name)] == []


def entries(lock: Path) -> dict[str, set[str]]:
    """`name==version` -> hashes."""
    found: dict[str, set[str]] = {}
    for entry in re.split(r"\n(?=[a-z0-9])", lock.read_text()):
        name = re.match(r"[a-z0-9._-]+==[^ ;\\]+", entry)
        if name:
            found[name[0]] = set(re.findall(r"--hash=(\S+)", entry))
            assert found[name[0]], name[0]
    return found


def test_the_wheel_builds_from_what_is_copied(tmp_path: Path) -> None:
    for line in STAGES["build"].lines:
        if not line.startswith("COPY"):
            continue
        *sources, target = line.split()[1:]
        for source in sources:
            into = tmp_path / target / (source if target == "./" else "")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, into, ignore=shutil.ignore_patterns("__pycache__", "*.csv"))
            else:
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, into)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "wheel")]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert [path.suffix for path in (tmp_path / "wheel").iterdir()] == [".whl"]
