"""A Kubernetes cluster: the ports ClusterReader and ClusterWriter over the API, by server-side apply.

:mod:`reconciler.bootstrap` makes one for each cluster of that type. What is otherwise than one would expect,
and what is done about it:

==============================================  ========================================================
who edits a field takes it from its manager     what was applied is kept in an annotation; an edited field
                                                is drift, and healing takes it back. A field that another
                                                manager applies is a conflict, and never taken
an apply by force takes every field             forced only if each field in conflict was ours and edited
apply merges into what is there already         read first: an object without our labels is refused
apply does not delete what is no longer named   an object of an earlier release is drift, and deleted by the
                                                next apply; a workload only when its successor is healthy
an object that is gone leaves no trace           the workload names all of its release; one gone is drift
a half-made apply looks made                    every object is tried first (dry run), and the workload, which
                                                carries the release, is written last
an autoscaler writes spec.replicas              no drift, and left out of what is applied; what we applied
                                                stays until it does, or the server would fall back to one
lists are not read at one instant               a workload is Progressing until its ReplicaSet is there too
a kind whose CRD is not installed               an empty list; an error only where one is to be applied
==============================================  ========================================================
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from reconciler.adapters.kubernetes import rights, served
from reconciler.adapters.kubernetes.client import (
    Conflict,
    Kind,
    KubernetesClient,
    NotInstalled,
    Object,
    Refused,
)
from reconciler.adapters.kubernetes.fields import (
    ANNOTATION_APPLIED,
    Drift,
    applied_at,
    applied_before,
    as_served,
    changed,
    drift,
    instant,
    may_take_back,
    name_of,
    scaled,
)
from reconciler.adapters.kubernetes.health import Condition, application, condition, serving
from reconciler.core import strict_yaml
from reconciler.core.digests import canonical_json
from reconciler.core.documents import Environment
from reconciler.core.errors import Retryable, Terminal
from reconciler.core.finding import Finding
from reconciler.core.observed import (
    ANNOTATION_RELEASE,
    ANNOTATION_RENDERED,
    LABEL_ENVIRONMENT,
    LABEL_MANAGED,
    LABEL_MODEL,
    Application,
    ClusterSweep,
    Gap,
    Workload,
)

ROLLOUTS = "argoproj.io/v1alpha1"
WORKLOADS = (Kind("apps/v1", "Deployment", "deployments"), Kind(ROLLOUTS, "Rollout", "rollouts"))
KINDS = (
    Kind("v1", "ServiceAccount", "serviceaccounts"),
    Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    Kind("v1", "Service", "services"),
    Kind(ROLLOUTS, "AnalysisTemplate", "analysistemplates"),
    Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    *WORKLOADS,
)
"""What may be applied, in the order in which it is: what a pod needs before it starts, workloads last."""
REPLICA_SETS = Kind("apps/v1", "ReplicaSet", "replicasets")
ANALYSIS_RUNS = Kind(ROLLOUTS, "AnalysisRun", "analysisruns")
PODS = Kind("v1", "Pod", "pods")
APPLICATIONS = Kind("argoproj.io/v1alpha1", "Application", "applications")
_OBJECTS = "trueup.dev/objects"
"""Annotation of a workload: KIND/NAME of every object that was applied with it."""
LOG_TAIL = 256 * 1024
_LOG_LINES = "2000"
_OURS = f"{LABEL_MANAGED}=trueup"


class _Listed(NamedTuple):
    """What was read of one namespace: objects of ours, and what workloads own, by the owner's uid."""

    objects: tuple[Object, ...]
    sets: Mapping[str, list[Object]]
    runs: Mapping[str, list[Object]]


class _Trial(NamedTuple):
    """One object of an apply: what it would be, and whether that takes fields back."""

    kind: Kind
    body: Object
    force: bool


class KubernetesCluster:
    """``namespaces`` are where trueup may look and write; nothing else of the cluster is asked for.

    But for ``argocd``: the namespace of Argo CD's Applications, of which the status is read.
    """

    def __init__(
        self, client: KubernetesClient, namespaces: tuple[str, ...], argocd: str | None = None
    ) -> None:
        self._client = client
        self._namespaces = namespaces
        self._argocd = argocd

    def diagnose(self, environments: Sequence[Environment], /) -> Iterator[Finding]:
        yield from served.version(self._client)
        if any(each.runtime.renderer == "rollout/v1" for each in environments):
            yield from served.installed(self._client, served.ROLLOUTS)
        for namespace in self._namespaces:
            syncs = {each.sync for each in environments if each.namespace == namespace}
            needed = rights.READING if syncs == {"argocd"} else rights.SERVING
            yield from rights.diagnose(self._client, namespace, needed)
        if self._argocd:
            yield from served.installed(self._client, served.APPLICATIONS)
            yield from rights.diagnose(self._client, self._argocd, rights.APPLICATIONS)

    # --- reading ------------------------------------------------------------------------------------------

    def sweep(self) -> ClusterSweep:
        """Every workload of ours: one paged list a kind and namespace. A namespace that refuses is a Gap."""
        found: dict[tuple[str, str], tuple[datetime, Workload]] = {}
        gaps: dict[str, Gap] = {}
        for namespace in self._namespaces:
            try:
                listed = self._listed(namespace, _OURS)
            except Refused as refused:
                if refused.status != 403:
                    raise
                gaps[namespace] = Gap(source=f"namespace {namespace}", error=str(refused), retryable=False)
                continue
            for subject, objects in _by_subject(listed.objects).items():
                applied = max(map(applied_at, objects))
                # In two namespaces after a move, it is where it was applied last.
                if subject not in found or found[subject][0] < applied:
                    found[subject] = applied, _workload(subject, namespace, objects, listed)
        workloads = {"/".join(subject): workload for subject, (_, workload) in found.items()}
        return ClusterSweep(workloads=workloads, applications=self._applications(gaps), gaps=gaps)

    def _applications(self, gaps: dict[str, Gap]) -> dict[str, Application]:
        """What Argo CD says, in one paged list. Where it refuses, a plan knows less and errs in nothing."""
        if self._argocd is None:
            return {}
        try:
            listed = self._client.list(APPLICATIONS, self._argocd, labels=f"{LABEL_ENVIRONMENT},{LABEL_MODEL}")
        except Refused as refused:
            gap = Gap(source=f"namespace {self._argocd}", error=str(refused), retryable=False)
            gaps.setdefault(self._argocd, gap)
            return {}
        labelled = ((item["metadata"]["labels"], item) for item in listed)
        return {
            f"{labels[LABEL_ENVIRONMENT]}/{labels[LABEL_MODEL]}": application(item) for labels, item in labelled
        }

    def logs(self, environment: str, model: str) -> str:
        """What each pod says of itself, and the last 256 KiB that each of its containers printed."""
        labels = _selector(environment, model)
        parts = [
            part
            for namespace in self._namespaces
            for pod in self._client.list(PODS, namespace, labels=labels)
            for part in self._printed(pod)
        ]
        if not parts:
            raise Terminal("nothing is deployed, or no pod of it is there", where=f"{environment}/{model}")
        return "".join(parts)

    def _printed(self, pod: Object) -> Iterator[str]:
        metadata, status = pod["metadata"], pod.get("status", {})
        states = {each["name"]: each for each in status.get("containerStatuses") or ()}
        for container in pod["spec"]["containers"]:
            name = container["name"]
            state = states.get(name, {})
            waiting = state.get("state", {}).get("waiting") or {}
            ready = "ready" if state.get("ready") else "not ready"
            said = ": ".join(str(waiting[field]) for field in ("reason", "message") if waiting.get(field))
            release = (metadata.get("annotations") or {}).get(ANNOTATION_RELEASE, "")
            head = f"pod {metadata['name']}, container {name}, release {release}"
            yield f"==> {head}: {status.get('phase', 'Unknown')}, {said or ready} <==\n"
            query = {"container": name, "tailLines": _LOG_LINES}
            try:
                text = self._client.text(PODS, metadata["namespace"], metadata["name"], "log", query)
            except (Refused, Retryable) as error:  # it has not started, or is gone by now
                yield f"no log: {error.what}\n"
                continue
            yield text[-LOG_TAIL:].decode(errors="replace")

    def _listed(self, namespace: str, labels: str) -> _Listed:
        def read(kind: Kind, labels: str = labels) -> list[Object]:
            try:
                return self._client.list(kind, namespace, labels=labels)
            except NotInstalled:
                return []

        objects = tuple(item for kind in KINDS for item in read(kind))
        # An AnalysisRun has the labels of its Rollout's strategy only; who owns it tells whose it is.
        is_rolled_out = any(item["kind"] == "Rollout" for item in objects)
        runs = read(ANALYSIS_RUNS, "") if is_rolled_out else []
        return _Listed(objects, _by_owner(read(REPLICA_SETS)), _by_owner(runs))

    # --- writing ------------------------------------------------------------------------------------------

    def apply(self, *, environment: str, model: str, namespace: str, manifests: Mapping[str, str]) -> bool:
        """Server-side apply of one subject's objects, all tried before any is written.

        Terminal for another subject's or nobody's object, a field that another manager applies, a refused
        manifest. Retryable while an object of the name, or its namespace, is being deleted.
        """
        subject = (environment, model)
        wanted = [self._manifest(subject, namespace, file, text) for file, text in manifests.items()]
        wanted.sort(key=lambda pair: KINDS.index(pair[0]))
        trials = [trial for kind, body in wanted if (trial := self._try(subject, namespace, kind, body))]
        named = {name_of(body) for _, body in wanted}
        for trial in trials:
            if trial.kind in WORKLOADS:
                trial.body["metadata"]["annotations"][_OBJECTS] = " ".join(sorted(named))
            self._client.apply(trial.kind, namespace, trial.body, force=trial.force)
        listed = self._listed(namespace, _selector(*subject))
        left = [each for each in _left_behind(subject, listed) if name_of(each) not in named]
        for each in left:
            self._delete(namespace, each)
        return bool(trials or left)

    def prune(self, *, environment: str, model: str, namespace: str, objects: tuple[str, ...]) -> None:
        """Delete these objects; what is not there is done already.

        Terminal, before anything is deleted, for an object that is not this subject's.
        """
        self._refuse_elsewhere(namespace)
        found: list[Object] = []
        for name in objects:
            kind_name, _, object_name = name.partition("/")
            kind = next((kind for kind in KINDS if kind.name == kind_name), None)
            if kind is None:
                raise Terminal(f"{name} is of a kind that trueup does not write", where=self._client.where)
            live = self._client.get(kind, namespace, object_name)
            if live is not None:
                self._refuse_others((environment, model), namespace, live)
                found.append(live)
        for live in found:
            self._delete(namespace, live)

    def _manifest(self, subject: tuple[str, str], namespace: str, file: str, text: str) -> tuple[Kind, Object]:
        body = strict_yaml.read(text.encode(), file).value
        kind = next(
            (k for k in KINDS if (k.api_version, k.name) == (body.get("apiVersion"), body.get("kind"))), None
        )
        if kind is None:
            what = f"is a {body.get('apiVersion')} {body.get('kind')}, which trueup does not apply"
            raise Terminal(what, where=file, hint=f"it applies {', '.join(kind.name for kind in KINDS)}")
        metadata = body.get("metadata") or {}
        if _subject(body) != subject:
            raise Terminal(f"are not those of {'/'.join(subject)}", where=f"{file}: metadata.labels")
        if metadata.get("namespace") != namespace:
            what = f"is for the namespace {metadata.get('namespace')}, not {namespace}"
            raise Terminal(what, where=file)
        self._refuse_elsewhere(namespace)
        return kind, body

    def _try(self, subject: tuple[str, str], namespace: str, kind: Kind, body: Object) -> _Trial | None:
        """What an apply of this object would write; None if that is there already."""
        live = self._client.get(kind, namespace, body["metadata"]["name"])
        body = copy.deepcopy(body)
        if live is not None:
            self._refuse_others(subject, namespace, live)
            if live["metadata"].get("deletionTimestamp"):
                what = f"{name_of(live)} in namespace {namespace} is still being deleted"
                raise Retryable(what, where=self._client.where, hint="it is applied again when it is gone")
            if scaled(live):
                body["spec"].pop("replicas", None)
            elif "replicas" in (applied_before(live) or {}).get("spec", {}):
                body["spec"].setdefault("replicas", live["spec"]["replicas"])
        force = False
        try:
            served = self._client.apply(kind, namespace, body, dry_run=True)
        except Conflict as conflict:
            if live is None or not may_take_back(live, conflict.owners):
                raise
            force = True
            served = self._client.apply(kind, namespace, body, dry_run=True, force=True)
        applied = as_served(body, served)
        before = applied_before(live) if live is not None else None
        if before is not None and live is not None:
            if scaled(live):
                before["spec"].pop("replicas", None)
            if before == applied and not any(changed(applied, live)):
                return None
        body["metadata"].setdefault("annotations", {})[ANNOTATION_APPLIED] = canonical_json(applied)
        return _Trial(kind, body, force)

    def _delete(self, namespace: str, live: Object) -> None:
        kind = next(kind for kind in KINDS if kind.name == live["kind"])
        self._client.delete(kind, namespace, live["metadata"]["name"], uid=live["metadata"]["uid"])

    # --- whose it is --------------------------------------------------------------------------------------

    def _refuse_elsewhere(self, namespace: str) -> None:
        if namespace not in self._namespaces:
            hint = "add it to the cluster's namespaces in environments/platform.yaml"
            raise Terminal(f"the namespace {namespace} is not trueup's", where=self._client.where, hint=hint)

    def _refuse_others(self, subject: tuple[str, str], namespace: str, live: Object) -> None:
        owner = _subject(live)
        if owner == subject:
            return
        place = f"{name_of(live)} in namespace {namespace}"
        if owner is not None:
            raise Terminal(f"belongs to {'/'.join(owner)}", where=place)
        hint = "delete or rename it, or give it trueup's labels if it is to be taken over"
        raise Terminal("is there already and does not carry trueup's labels", where=place, hint=hint)


def _subject(item: Object) -> tuple[str, str] | None:
    """(environment, model) of an object of ours."""
    labels = item.get("metadata", {}).get("labels") or {}
    environment, model = str(labels.get(LABEL_ENVIRONMENT, "")), str(labels.get(LABEL_MODEL, ""))
    return (environment, model) if labels.get(LABEL_MANAGED) == "trueup" and environment and model else None


def _selector(environment: str, model: str) -> str:
    return f"{_OURS},{LABEL_ENVIRONMENT}={environment},{LABEL_MODEL}={model}"


def _by_subject(objects: Iterable[Object]) -> dict[tuple[str, str], list[Object]]:
    found: dict[tuple[str, str], list[Object]] = {}
    for item in objects:
        subject = _subject(item)
        if subject is not None:
            found.setdefault(subject, []).append(item)
    return found


def _by_owner(objects: Iterable[Object]) -> dict[str, list[Object]]:
    found: dict[str, list[Object]] = {}
    for item in objects:
        for owner in item["metadata"].get("ownerReferences") or ():
            found.setdefault(owner["uid"], []).append(item)
    return found


def _annotation(item: Object, name: str) -> str:
    return str((item["metadata"].get("annotations") or {}).get(name, ""))


def _rendered(item: Object) -> str:
    """The digest of the manifests that it was applied with, whatever its annotation says by now."""
    return _annotation(applied_before(item) or {"metadata": {}}, ANNOTATION_RENDERED)


def _main(objects: Iterable[Object]) -> Object | None:
    """The workload; the one applied last where a new one takes over from another."""
    kinds = {kind.name for kind in WORKLOADS}
    found = [
        item for item in objects if item["kind"] in kinds and not item["metadata"].get("deletionTimestamp")
    ]
    return max(found, key=applied_at, default=None)


def _health(main: Object | None, objects: list[Object], listed: _Listed) -> Condition:
    if main is None:
        newest = max(instant(item["metadata"]["creationTimestamp"]) for item in objects)
        return Condition("Missing", newest, f"there is no workload, only {', '.join(map(name_of, objects))}")
    uid = main["metadata"]["uid"]
    return condition(main, listed.sets.get(uid, ()), listed.runs.get(uid, ()), _enough(main, objects))


def _enough(main: Object, objects: list[Object]) -> int | None:
    """The minReplicas of the workload's autoscaler, if it has one of ours."""
    for item in objects:
        if item["kind"] == "HorizontalPodAutoscaler":
            target = item["spec"]["scaleTargetRef"]
            if (target["kind"], target["name"]) == (main["kind"], main["metadata"]["name"]):
                return int(item["spec"].get("minReplicas") or 1)
    return None


def _old(main: Object | None, objects: list[Object], health: str) -> list[Object]:
    """What an earlier release left, which may go now: its workload only when the new one is healthy."""
    if main is None:
        return []
    kinds = {kind.name for kind in WORKLOADS}
    return [
        item
        for item in objects
        if _rendered(item) != _rendered(main)
        and not item["metadata"].get("deletionTimestamp")
        and (item["kind"] not in kinds or health == "Healthy")
    ]


def _left_behind(subject: tuple[str, str], listed: _Listed) -> list[Object]:
    objects = _by_subject(listed.objects).get(subject, [])
    main = _main(objects)
    return _old(main, objects, _health(main, objects, listed).health) if main else []


def _workload(subject: tuple[str, str], namespace: str, objects: list[Object], listed: _Listed) -> Workload:
    main = _main(objects)
    found = _health(main, objects, listed)
    old = _old(main, objects, found.health)
    sets = listed.sets.get(main["metadata"]["uid"], ()) if main else ()
    drifts = [found for item in objects if item not in old for found in drift(item)]
    drifts += [Drift(f"{name_of(item)} is of an earlier release") for item in old]
    named = _annotation(main, _OBJECTS).split() if main else []
    drifts += [Drift(f"{name} is gone") for name in named if name not in map(name_of, objects)]
    said = main or objects[0]
    services = [item for item in objects if item["kind"] == "Service"]
    # Beside it, a canary with a mesh has one for each of its two releases.
    service = min(services, key=lambda item: len(item["metadata"]["name"]), default=None)
    return Workload(
        environment=subject[0],
        model=subject[1],
        namespace=namespace,
        release=_annotation(said, ANNOTATION_RELEASE),
        rendered=_annotation(said, ANNOTATION_RENDERED),
        health=found.health,
        since=found.since,
        message=found.message,
        measurements=found.measurements,
        serving=_serving(main, sets, objects, listed),
        endpoint=_endpoint(service) if service else "",
        recorded=next((_endpoint(each) for each in services if _port(each).get("name") == "recorded"), ""),
        objects=tuple(sorted(map(name_of, objects))),
        drifted=tuple(each.sentence for each in drifts),
        drifted_since=min((each.since for each in drifts if each.since), default=None),
    )


def _serving(main: Object | None, sets: Iterable[Object], objects: list[Object], listed: _Listed) -> str:
    """Of the workload; of the one before it while nothing of the new one is ready."""
    if main is None:
        return ""
    others = [
        item for item in objects if item is not main and item["kind"] in {kind.name for kind in WORKLOADS}
    ]
    found = (serving(item, listed.sets.get(item["metadata"]["uid"], ())) for item in others)
    return serving(main, list(sets)) or next((release for release in found if release), "")


def _endpoint(service: Object) -> str:
    """Where the cluster's own clients reach it."""
    metadata, port = service["metadata"], _port(service).get("port", 80)
    host = f"{metadata['name']}.{metadata['namespace']}.svc"
    return f"http://{host}" if port == 80 else f"http://{host}:{port}"


def _port(service: Object) -> Object:
    """The first: ours have one."""
    ports: list[Object] = service["spec"].get("ports") or [{}]
    return ports[0]
