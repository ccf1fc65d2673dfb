"""The story on real systems: from a first training to a canary that is taken back, every server at once.

`make test-platform` runs it; platform_stage.py sets the servers up. What the cluster was asked for is read from
the API server's own audit log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mlflow import MlflowClient

from tests.contract.forge_worlds import git
from tests.integration.exposure import Seen
from tests.integration.platform_stage import RECONCILER, RUNS, Stage, platform
from tests.servers.cluster import LOG_LINES, Cluster
from tests.servers.gitea import Gitea

pytestmark = pytest.mark.platform

MODEL = "models/digits/model.yaml"
PROMOTE = "trueup/promote/{}/digits"
ROLLBACK = "trueup/rollback/production/digits"


class Right(NamedTuple):
    group: str
    resource: str
    verb: str


@pytest.fixture
def stage(gitea: Gitea, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    for name in ("TRUEUP_TOKEN", "TRUEUP_PLATFORM", "TRUEUP_REPOSITORY", "TRUEUP_HOME", "TRUEUP_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    with platform(tmp_path, gitea, cluster) as made:
        yield made


def test_the_story_on_real_systems(stage: Stage) -> None:
    first_version(stage)
    better_version(stage)
    version_taken_back(stage)
    at_rest(stage)
    retired(stage)
    no_secret_came_to_light(stage)
    every_right_was_used_and_none_was_missing(stage)


# --- the chapters -----------------------------------------------------------------------------------------


def first_version(stage: Stage) -> None:
    """Trained; in staging by itself, in production by a person's yes. No canary: there is no champion."""
    assert "submit-workflow  train-digits-" in stage.tick()
    stage.until(r"submit-workflow +measure-")
    a_run_is_looked_into(stage)
    stage.until(r"mark-version +digits version 1: trueup\.verified\.staging +done")
    assert stage.pull_request(PROMOTE.format("staging"))["merged"]
    stage.until(r"hold +awaiting-approval")
    assert aliases(stage) == {"staging": "1"}
    stage.person("Grace", "pr", "approve", str(stage.pull_request(PROMOTE.format("production"))["number"]))
    stage.until(r"move-alias +digits@production: nothing -> version 1 +done")
    assert stage.pull_request(PROMOTE.format("production"))["merged_by"]["login"] == "trueup"
    assert stage.prometheus.asked == set()
    assert served(stage) == "1"


def better_version(stage: Stage) -> None:
    """A person's change, corrected at once; measured against the champion; a canary, step by step."""
    stage.change(MODEL, lambda text: text.replace("epochs: 6", "epochs: 100000"), "digits: train for long")
    assert "submit-workflow  train-digits-" in stage.tick()
    stage.change(MODEL, lambda text: text.replace("epochs: 100000", "epochs: 20"), "digits: 20 epochs")
    assert re.search(r"stop-workflow +train-digits-\S+ +done", stage.tick())
    stage.until(r"mark-version +digits version 2: trueup\.verified\.staging +done")
    body = stage.pull_request(PROMOTE.format("staging"))["body"]
    assert re.search(r"`not-worse`.*\| \[[+-][0-9.]+, [+-][0-9.]+\] +\| 800 +\| 0\.9\d+ +\| pass ", body), body
    stage.until(r"hold +awaiting-approval")
    stage.person("Grace", "pr", "approve", str(stage.pull_request(PROMOTE.format("production"))["number"]))
    stage.prometheus.answering.clear()
    stage.until(r"apply-manifests .*done")
    stage.rollout_shows(currentStepIndex=2)
    assert "canary at 10 %, step 3 of 6" in stage.tick()
    assert (served(stage), aliases(stage)["production"]) == ("1", "1")
    stage.prometheus.answering.set()
    stage.rollout_shows(phase="Paused", currentStepIndex=4)
    said = stage.tick()
    assert re.search(r"! hold +paused", said), said
    assert "canary at 50 %, step 5 of 6" in said
    stage.person_promotes()
    stage.rollout_shows(phase="Healthy")
    stage.until(r"mark-version +digits version 2: trueup\.verified\.production +done")
    stage.until(r"move-alias +digits@production: version 1 -> version 2 +done")
    assert served(stage) == "2"
    assert any("trueup_prediction_errors_total" in query for query in stage.prometheus.asked)


def version_taken_back(stage: Stage) -> None:
    """The canary's analysis fails: the rollback is proposed in the next tick, merged, and all agree again."""
    stage.change(MODEL, lambda text: text.replace("seed: 0", "seed: 1"), "digits: another seed")
    stage.until(r"mark-version +digits version 3: trueup\.verified\.staging +done")
    stage.until(r"hold +awaiting-approval")
    stage.person("Grace", "pr", "approve", str(stage.pull_request(PROMOTE.format("production"))["number"]))
    stage.prometheus.values = ["0.9"]
    stage.until(r"apply-manifests .*done")
    stage.rollout_shows(abort=True)
    said = stage.tick()
    assert re.search(r"open-pull-request +Roll back digits in production to version 2 +done", said), said
    pull = stage.pull_request(ROLLBACK)
    assert re.search(r"error-share was \[0\.9\] at \S+ \(failed\)", pull["body"]), pull["body"]
    stage.until(r"mark-version +digits version 2: trueup\.verified\.production|! hold +rejected")
    stage.rollout_shows(phase="Healthy")
    assert stage.pull_request(ROLLBACK)["merged"]
    release = stage.forge.show("main:environments/production/releases/digits.yaml")
    assert re.search(r'(?m)^  version: "2"$', release), release
    (digest,) = re.findall(r"- digest: (sha256:\w{64})", release.partition("rejected:")[2])
    assert digest == registry(stage).get_model_version("digits", "3").tags["trueup.digest"]
    assert served(stage) == "2"
    assert aliases(stage) == {"staging": "3", "production": "2"}


def at_rest(stage: Stage) -> None:
    """Nothing to do: nothing is written. Every release is verified, and the history knows how it came."""
    stage.until(r"No changes\.")
    before = len(asked(stage))
    assert "No changes." in stage.tick()
    assert {event["verb"] for event in asked(stage)[before:]} == {"list"}
    status = stage.trueup("status")
    assert re.search(r"digits +v3 trained since .* v3 verified since .* v2 verified since ", status), status
    history = stage.trueup("history", "production/digits")
    numbers = [stage.pull_request(branch)["number"] for branch in (PROMOTE.format("production"), ROLLBACK)]
    assert [number for number in numbers if f"#{number}" not in history] == [], history
    assert LOG_LINES in stage.trueup("logs", "production/digits")


def a_run_is_looked_into(stage: Stage) -> None:
    """What people read of a run, whose pod the engine would have made."""
    stage.workflows_done()
    run = stage.workflows()[0]
    name = run["metadata"]["name"]
    node = next(node for node in run["status"]["nodes"].values() if node["type"] == "Pod")
    metadata = {
        "name": f"{name}-pod",
        "namespace": RUNS,
        "labels": {"workflows.argoproj.io/workflow": name},
        "annotations": {"workflows.argoproj.io/node-name": node["name"]},
    }
    spec = {"containers": [{"name": "main", "image": "registry.example/steps"}]}
    stage.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    stage.cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}-pod", f"--namespace={RUNS}")
    assert f"==> {node['displayName']} <==\n{LOG_LINES}" in stage.trueup("logs", name)


def retired(stage: Stage) -> None:
    """The model leaves every environment: a person merges each removal, and what it left is pruned."""
    leaves = "environments: []"
    stage.change(MODEL, lambda text: re.sub(r"environments: \[.*\]", leaves, text), "digits is retired")
    stage.until(r"open-pull-request .*done")
    removals = [
        stage.pull_request(f"trueup/remove/{name}/digits")["number"] for name in ("production", "staging")
    ]
    for number in removals:
        stage.person("Grace", "pr", "approve", str(number))
    stage.until(r"publish-checks .*trueup/admission success +done")
    for number in removals:
        stage.person("Grace", "pr", "merge", str(number))
    stage.until(r"No changes\.")
    assert aliases(stage) == {}
    left = stage.cluster.get("rollouts,deployments,services", "--all-namespaces", "-l=trueup.dev/model")
    assert left["items"] == []


# --- what is looked at afterwards -------------------------------------------------------------------------


def no_secret_came_to_light(stage: Stage) -> None:
    """Not in what was printed, proposed, submitted, applied or registered; in processes only as it must be."""
    exposure = stage.exposure
    found = {f"{turn}: {said.command}": exposure.found(str(said)) for turn, said in enumerate(stage.said)}
    found |= {f"pull request {key}": exposure.found(text) for key, text in proposed(stage).items()}
    found |= {f"in the cluster: {key}": exposure.found(text) for key, text in objects(stage).items()}
    found |= {f"in the registry: {table}": exposure.found(rows) for table, rows in stage.registered()}
    for folder in ("argo", "artifacts", "cache", "persons-cache"):
        for path in (stage.folder / folder).rglob("*"):
            if path.is_file():
                found[str(path.relative_to(stage.folder))] = exposure.found(path.read_bytes())
    assert len(found) > 100
    assert {place: names for place, names in found.items() if names} == {}
    # Git takes a header from a variable that trueup names, and hands it to its own helpers in another one.
    gits = ("$TRUEUP_SETTING_0", "$GIT_CONFIG_PARAMETERS")
    intended = {
        "MLflow's password": ("$MLFLOW_TRACKING_PASSWORD",),
        "trueup's token": gits,
        "Ada's token": ("$TRUEUP_TOKEN", *gits),
        "Grace's token": ("$TRUEUP_TOKEN", *gits),
    }
    assert exposure.processes - {Seen(name, place) for name in intended for place in intended[name]} == set()
    own = {Seen(name, places[0]) for name, places in intended.items()}
    assert own <= exposure.processes, "not everything was watched"


def every_right_was_used_and_none_was_missing(stage: Stage) -> None:
    events = asked(stage)
    assert [event["requestURI"] for event in events if event["responseStatus"]["code"] == 403] == []
    writes = [event["requestURI"] for event in events if event["verb"] in ("create", "patch")]
    assert [uri for uri in writes if "fieldValidation=Strict" not in uri] == []
    never = {
        role: rights - {right for event in events for right in rights_of(event, namespaces)}
        for role, (namespaces, rights) in roles(stage).items()
    }
    assert never == {f"trueup-{name}": set() for name in ("engine", "lease", "reader", "writer")}


# --- asking -----------------------------------------------------------------------------------------------


def registry(stage: Stage) -> MlflowClient:
    uri = stage.env["MLFLOW_TRACKING_URI"]
    return MlflowClient(uri, uri)


def aliases(stage: Stage) -> dict[str, str]:
    return dict(registry(stage).get_registered_model("digits").aliases)


def served(stage: Stage) -> str:
    """The version that the stable pods of production serve."""
    stable = stage.rollout()["status"]["stableRS"]
    sets = stage.cluster.get("replicasets", "--namespace=production", f"-l=rollouts-pod-template-hash={stable}")
    (found,) = sets["items"]
    env = found["spec"]["template"]["spec"]["containers"][0]["env"]
    return str(next(entry["value"] for entry in env if entry["name"] == "TRUEUP_MODEL_VERSION"))


def asked(stage: Stage) -> list[dict[str, Any]]:
    """All that the reconciler has asked of the API server's objects."""
    return [event for event in stage.cluster.requests(RECONCILER) if "objectRef" in event]


def rights_of(event: dict[str, Any], namespaces: set[str]) -> Iterator[Right]:
    """What it takes, if it is about one of them. A server-side apply that makes an object is a create too."""
    ref = event["objectRef"]
    if ref.get("namespace") in namespaces:
        resource = "/".join(filter(None, (ref["resource"], ref.get("subresource"))))
        yield Right(ref.get("apiGroup", ""), resource, event["verb"])
        if event["verb"] == "patch" and event["responseStatus"]["code"] == 201:
            yield Right(ref.get("apiGroup", ""), resource, "create")


def roles(stage: Stage) -> dict[str, tuple[set[str], set[Right]]]:
    """Each Role that the reconciler is given: the namespaces in which it is, and what it allows."""
    found: dict[str, tuple[set[str], set[Right]]] = {}
    for binding in stage.cluster.get("rolebindings", "--all-namespaces")["items"]:
        accounts = [(s.get("namespace"), s["name"]) for s in binding.get("subjects") or ()]
        if ("trueup", "trueup-reconciler") not in accounts:
            continue
        namespace, name = binding["metadata"]["namespace"], binding["roleRef"]["name"]
        role = stage.cluster.get("role", name, f"--namespace={namespace}")
        namespaces, rights = found.setdefault(name, (set(), set()))
        namespaces.add(namespace)
        rights |= {
            Right(group, resource, verb)
            for rule in role["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
    return found


def proposed(stage: Stage) -> dict[str, str]:
    """Every pull request with its talk and its checks, and every commit of every branch with its changes."""
    repository = f"/repos/{stage.forge.repository}"
    texts = {}
    for pull in stage.pull_requests():
        number = pull["number"]
        pages = (f"issues/{number}/timeline", f"pulls/{number}/reviews", f"statuses/{pull['head']['sha']}")
        told = [stage.forge.admin.get(f"{repository}/{page}").raise_for_status().text for page in pages]
        texts[str(number)] = "\n".join((json.dumps(pull), *told))
    texts["(all commits)"] = git(stage.forge.bare, "log", "--all", "--patch", "--format=fuller")
    return texts


def objects(stage: Stage) -> dict[str, str]:
    """Everything in the cluster but the Secrets themselves."""
    kinds = stage.cluster.kubectl("api-resources", "--verbs=list", "--output=name").split()
    kinds = [kind for kind in kinds if kind != "secrets"]
    items = stage.cluster.get(",".join(kinds), "--all-namespaces")["items"]
    return {
        f"{i['kind']} {i['metadata'].get('namespace', '')}/{i['metadata']['name']}": json.dumps(i)
        for i in items
    }
