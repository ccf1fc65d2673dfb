"""Random desired and observed states, for the laws that hold whatever Git and the systems say.

:func:`worlds` draws a commit and what the systems answer to it; :func:`desired_states` only the commit. The
parts fit together more often than chance would have it (keys, digests and markers are real ones), so that the
planner is taken down every road; and any of them may be missing, forged or a Gap.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from reconciler.core.base import Subject
from reconciler.core.desired import DesiredState, ModelSource, Policy, Template, blob_id, blobs_digest
from reconciler.core.digests import canonical_json, sha256
from reconciler.core.documents import (
    Admission,
    Data,
    DataSet,
    Environment,
    EvaluationData,
    Exceptions,
    External,
    Gate,
    HoldOrder,
    Limits,
    Model,
    Pin,
    PromotesFrom,
    Promotion,
    Rejected,
    Release,
    Retention,
    Rollback,
    Training,
    VerifiedPin,
    Versus,
    Waiver,
    When,
)
from reconciler.core.evidence import CATALOGUE, Estimate, Evidence, EvidenceBundle, Metric, Scores
from reconciler.core.observed import (
    TAG_ARCHIVED,
    TAG_DIGEST,
    TAG_INPUTS,
    TAG_KEY,
    Approval,
    Archived,
    ClusterSweep,
    EngineSweep,
    ForgeSweep,
    Gap,
    Intent,
    Mark,
    Marker,
    ModelVersion,
    Observed,
    PinHistory,
    Proposal,
    PullRequest,
    RegisteredModel,
    RegistrySweep,
    Swept,
    VerifiedMark,
    WorkflowRun,
    Workload,
    branch_of,
    evidence_tag,
    verified_tag,
)
from reconciler.core.platform import EngineEmbedded, Platform
from reconciler.core.problems import Problem
from reconciler.core.serving import Runtime, Serving
from reconciler.planning.in_motion import INTENTS, in_motion
from reconciler.planning.judge import NO_CHAMPION, case_of, measurements
from reconciler.planning.proposals import with_release
from reconciler.planning.renderers import render

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
REVISION = "c" * 40
VERSIONS = ("1", "2", "3")
MODELS = ("digits", "fraud")
ENVIRONMENTS = ("dev", "staging", "canary", "production")
TEMPLATES = {
    name: Template(name=name, recipe="1", parameters={})
    for name in ("train-v1", *(measurement.template for measurement in CATALOGUE.values()))
}


class World(NamedTuple):
    """A commit, and what the systems answer."""

    desired: DesiredState
    observed: Observed


def digest_of_version(version: str) -> str:
    """A digest that a reader recognises: that of version 3 is all threes."""
    return f"sha256:{version[-1] * 64}"


def _some(items: tuple[str, ...]) -> SearchStrategy[tuple[str, ...]]:
    """Any of the items, in their order."""
    chosen = st.lists(st.booleans(), min_size=len(items), max_size=len(items))
    return chosen.map(lambda flags: tuple(item for item, flag in zip(items, flags, strict=True) if flag))


# At, before or after NOON by what soaks, ages and windows ask for, on the boundary as well.
instants = st.sampled_from([0, 1, 60, 600, 1800, 86_400, 86_401, 40 * 86_400, -60]).map(
    lambda seconds: NOON - timedelta(seconds=seconds)
)
rarely = st.integers(0, 9).map(lambda n: n == 9)
mostly = st.integers(0, 3).map(lambda n: n != 3)
numbers = st.sampled_from([0.0, 0.5, 0.9, 0.95, 1.0, None, float("nan"), float("inf")])

retentions = st.sampled_from(
    [None, Retention(versions=1), Retention(for_=timedelta(days=1)), Retention(for_=timedelta(0), versions=2)]
)

# --- Git --------------------------------------------------------------------------------------------------

GATES = (
    Gate(name="accuracy", metric="evaluate.accuracy", op=">=", threshold=0.9, min_samples=100),
    Gate(
        name="not-worse",
        metric="evaluate.accuracy",
        versus=Versus(ref="champion", max_drop=0.02),
        max_age=timedelta(days=30),
        when=When(changes=("version",)),
    ),
    Gate(name="parity", metric="parity.agreement", op=">=", threshold=1.0, on_missing="review"),
)


@st.composite
def environments(draw: DrawFn, earlier: tuple[str, ...], name: str) -> Environment:
    """One environment that promotes from any of ``earlier``, or from none."""
    upstream = draw(_some(earlier))
    kind = draw(st.sampled_from(["any_of", "all_of"]))
    merge = draw(st.sampled_from(["auto", "manual"]))
    return Environment(
        kind="Environment",
        promotes_from=PromotesFrom(**{kind: upstream}) if upstream else None,
        policy=draw(st.sampled_from(["open", "strict"])),
        alias=name,
        namespace=name,
        promotion=Promotion(
            merge=merge,
            approvals=draw(st.integers(0, 2)),
            soak=timedelta(minutes=draw(st.sampled_from([0, 10]))),
            on_unadmitted=draw(st.sampled_from(["hold", "revert"])),
        ),
        rollback=Rollback(merge=draw(st.sampled_from(["auto", "manual"]))),
        limits=Limits(
            submissions=draw(st.sampled_from([0, 1, 10])),
            open_pull_requests=draw(st.sampled_from([0, 1, 20])),
            deletes=draw(st.integers(0, 3)),
            rollbacks=draw(st.integers(0, 3)),
        ),
        retention=draw(retentions),
    )


@st.composite
def models(draw: DrawFn, name: str, known: tuple[str, ...]) -> ModelSource:
    external = draw(rarely)
    return ModelSource(
        model=Model(
            kind="Model",
            owner="team",
            task="classification",
            registered_name=name,
            data=Data(
                train=DataSet(pointer="data/train.dvc"),
                evaluation=EvaluationData(pointer="data/evaluation.dvc", target="label"),
            ),
            training=Training(external=External(alias="requested"))
            if external
            else Training(workflow="train-v1"),
            serving=draw(st.sampled_from([Serving(), Serving(replicas=2), "none"])),
            environments=known if draw(mostly) else draw(_some(known)),
            priority=draw(st.integers(-1, 1)),
        ),
        source_tree=draw(st.sampled_from(["a" * 40, "b" * 40])),
        train_md5="1" * 32,
        evaluation_md5="2" * 32,
    )


@st.composite
def desired_states(draw: DrawFn) -> DesiredState:
    """A commit without pins: one to four environments (a DAG), one or two models, two policies."""
    names = ENVIRONMENTS[: draw(st.integers(1, len(ENVIRONMENTS)))]
    known = {name: draw(environments(names[:i], name)) for i, name in enumerate(names)}
    wanted = MODELS[: draw(st.integers(1, len(MODELS)))]
    return DesiredState(
        revision=REVISION,
        platform=Platform(kind="Platform", engine=EngineEmbedded(keep=timedelta(0))),
        environments=known,
        policies={"open": Policy(name="open", gates=()), "strict": Policy(name="strict", gates=GATES)},
        models={name: draw(models(name, names)) for name in wanted},
        templates=TEMPLATES,
    )


@st.composite
def releases(draw: DrawFn, desired: DesiredState, subject: Subject) -> Release:
    """A pin whose rendered digest is right; everything else about it may be anybody's work."""
    environment, model = desired.environments[subject.environment], desired.models[subject.model].model
    version = draw(st.sampled_from(VERSIONS[:2]))
    past = draw(st.sampled_from(VERSIONS))
    rejected = Rejected(digest=digest_of_version(past), version=past, reason="failed", since=NOON)
    draft = Release(
        kind="Release",
        pin=Pin(
            registry=environment.registry,
            name=model.registered_name,
            version=version,
            digest=digest_of_version(version),
        ),
        image=desired.platform.images.server,
        serving=model.serving_in(subject.environment, Runtime()),
        renderer="deployment/v1",
        admission=Admission(
            grounds=draw(st.sampled_from(["promotion", "rollback", "adoption"])), judged_at=draw(instants)
        ),
        rejected=(rejected,) if draw(rarely) else (),
    )
    if draw(st.booleans()):
        verified = draft.pin.model_copy(update={"version": past, "digest": digest_of_version(past)})
        champion = VerifiedPin(
            version=past,
            digest=digest_of_version(past),
            release=draft.model_copy(update={"pin": verified}).digest,
            at=draw(instants),
        )
        draft = draft.model_copy(update={"champion": champion})
    files = render(subject.environment, environment, subject.model, draft)
    rendered = blobs_digest({name: blob_id(text) for name, text in files.items()})
    return draft.model_copy(update={"admission": draft.admission.model_copy(update={"rendered": rendered})})


@st.composite
def pinned_states(draw: DrawFn) -> DesiredState:
    """:func:`desired_states` with pins, exceptions, edited manifests and documents that do not parse."""
    desired = draw(desired_states())
    exceptions: dict[str, Exceptions] = {}
    for environment in desired.environments:
        for model in desired.models:
            subject = Subject(environment=environment, model=model)
            if draw(st.booleans()):
                desired = with_release(desired, subject, draw(releases(desired, subject)), None)
            if draw(rarely):
                desired = desired.model_copy(update={"rendered": {**desired.rendered, str(subject): {}}})
            if draw(rarely):
                waiver = Waiver(gate="accuracy", digest=digest_of_version("2"), reason="known", expires=NOON)
                exceptions[str(subject)] = Exceptions(
                    kind="Exceptions", holds=(HoldOrder(reason="audit"),), waivers=(waiver,)
                )
    problems: tuple[Problem, ...] = ()
    if draw(rarely):
        name = draw(st.sampled_from(sorted(desired.models)))
        problems = (Problem(path=f"models/{name}/model.yaml", line=1, what="does not parse", model=name),)
    return desired.model_copy(update={"exceptions": exceptions, "problems": problems})


# --- the systems ------------------------------------------------------------------------------------------


@st.composite
def estimates(draw: DrawFn) -> Estimate:
    return Estimate(
        value=draw(numbers), n=draw(st.sampled_from([0, 99, 100, 1000])), low=draw(numbers), high=draw(numbers)
    )


@st.composite
def evidence(draw: DrawFn, desired: DesiredState, model: str, version: str, champion: str) -> Evidence:
    """Evidence of one version against one champion (or none), of either kind, with any numbers."""
    subject = Subject(environment=draw(st.sampled_from(sorted(desired.environments))), model=model)
    environment = desired.environments[subject.environment]
    pin = Pin(registry="default", name=model, version=version, digest=digest_of_version(version))
    case = case_of(desired, subject, pin, desired.platform.images.server, None)
    case = case._replace(champion=champion)
    measurement = draw(st.sampled_from(measurements(desired.policies[environment.policy], case) or ("parity",)))
    name = {"evaluate": "accuracy", "parity": "agreement"}[measurement]
    scores = Scores(candidate=draw(estimates()), champion=draw(estimates()), difference=draw(estimates()))
    good = Estimate(value=1.0, n=1000, low=0.0, high=0.1)
    if draw(mostly):
        scores = Scores(candidate=good, champion=good, difference=good)
    return Evidence(
        measurement=measurement,
        recipe=CATALOGUE[measurement].recipe,
        key=case.key(measurement),
        inputs=dict(case.inputs(measurement)),
        at=draw(instants),
        metrics={name: Metric(overall=scores)},
    )


def mark_of(document: Evidence, version: str) -> Mark:
    """The mark that vouches for a document."""
    return Mark(uri=f"runs:/measured-{version}/{document.measurement}.json", sha256=sha256(document.to_bytes()))


@st.composite
def registered_models(
    draw: DrawFn, desired: DesiredState, model: str, stored: dict[str, Evidence]
) -> RegisteredModel:
    """Versions with or without our tags; what their evidence marks lead to goes into ``stored``."""
    found = []
    for number in VERSIONS[: draw(st.sampled_from([3, 2, 3, 1, 0]))]:
        tags: dict[str, str] = {}
        if not draw(rarely):
            tags[TAG_DIGEST] = digest_of_version(number)
        if draw(mostly):
            earlier = draw(st.integers(0, 3)) == 0
            tags[TAG_KEY] = "0" * 12 if earlier else desired.training_key(model) or "0" * 12
            tags[TAG_INPUTS] = canonical_json(desired.training_inputs(model))
        for name in desired.environments:
            release = desired.releases.get(f"{name}/{model}")
            if release is not None and release.pin.version == number and draw(mostly):
                tags[verified_tag(name)] = str(VerifiedMark(release=release.digest, at=draw(instants)))
        for champion in (NO_CHAMPION, *map(digest_of_version, VERSIONS)):
            if draw(mostly):
                document = draw(evidence(desired, model, number, champion))
                mark = mark_of(document, number)
                tags[evidence_tag(document.measurement, document.key)] = str(mark)
                stored[str(mark)] = document
        if draw(rarely):
            tags[TAG_ARCHIVED] = str(Archived(number=1, at=NOON, by="trueup", why="no longer needed in dev"))
        found.append(ModelVersion(version=number, created=draw(instants), ready=not draw(rarely), tags=tags))
    numbered = [version.version for version in found]
    names = (*desired.environments, "requested") if found else ()
    aliases = {name: draw(st.sampled_from(numbered)) for name in draw(_some(names))}
    return RegisteredModel(aliases=aliases, versions=tuple(found))


@st.composite
def runs(draw: DrawFn, desired: DesiredState, model: str) -> tuple[WorkflowRun, ...]:
    """Attempts at the model's training and at measurements of its versions, in any phase."""
    keys = [("train", desired.training_key(model) or "0" * 12)]
    for number in VERSIONS:
        pin = Pin(registry="default", name=model, version=number, digest=digest_of_version(number))
        case = case_of(desired, Subject(model=model), pin, desired.platform.images.server, None)
        keys += [(measurement, case.key(measurement)) for measurement in CATALOGUE]
    found = []
    for kind, key in keys:
        for attempt in range(1, draw(st.integers(0, 2)) + 1):
            prefix = "train" if kind == "train" else f"measure-{kind}"
            labels = {
                "trueup.dev/kind": "train" if kind == "train" else "measure",
                "trueup.dev/model": model,
                "trueup.dev/key": key,
                "trueup.dev/attempt": str(attempt),
                "trueup.dev/environment": draw(st.sampled_from(sorted(desired.environments))),
            }
            if kind != "train":
                labels["trueup.dev/measurement"] = kind
            found.append(
                WorkflowRun(
                    name=f"{prefix}-{model}-{key}-{attempt}",
                    phase=draw(st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Error"])),
                    labels=labels,
                    outputs={"evidence-uri": "runs:/new/evidence.json", "evidence-sha256": sha256("new")}
                    if draw(st.booleans())
                    else {},
                )
            )
    return tuple(found)


@st.composite
def pull_requests(
    draw: DrawFn, desired: DesiredState, subject: Subject, intent: Intent, number: int
) -> PullRequest:
    version = draw(st.sampled_from(VERSIONS))
    state = draw(st.sampled_from(["open", "open", "merged", "closed"]))
    head = f"{number:040x}"
    approvals = (Approval(by="ada", head=head, at=NOON),) if draw(st.booleans()) else ()
    marker = Marker(
        intent=intent,
        environment=subject.environment,
        model=subject.model,
        candidate=draw(st.sampled_from([digest_of_version(version), "none"])),
        inputs=sha256(version),
        asked_by=draw(st.sampled_from(["", "", "ada"])) if intent == "rollback" else "",
    )
    ours = not draw(rarely)
    return PullRequest(
        number=number,
        state=state,
        branch=branch_of(intent, subject),
        head=head,
        title=f"{intent} {subject}",
        author="trueup" if ours else "mallory",
        ours=ours,
        marker=None if draw(rarely) else marker,
        mergeable=not draw(rarely),
        approvals=approvals,
        opened=NOON,
        closed=None if state == "open" else NOON,
        closed_by="" if state == "open" else "ada",
        closed_by_us=draw(st.booleans()) if state == "closed" else False,
    )


@st.composite
def workloads(draw: DrawFn, desired: DesiredState, subject: Subject) -> Workload:
    release = desired.releases.get(str(subject))
    digests = [*([release.digest] * 4 if release else []), sha256("something else")]
    applied = draw(st.sampled_from(digests))
    return Workload(
        environment=subject.environment,
        model=subject.model,
        namespace=subject.environment,
        release=applied,
        health=draw(st.sampled_from(["Healthy", "Healthy", "Progressing", "Degraded", "Aborted", "Missing"])),
        since=draw(instants),
        serving=draw(st.sampled_from([applied, applied, applied, ""])),
        objects=(f"Deployment/{subject.model}", f"Service/{subject.model}"),
        drifted=("spec.replicas",) if draw(rarely) else (),
    )


def gap(source: str) -> Gap:
    return Gap(source=source, error="timed out after 10s")


@st.composite
def worlds(draw: DrawFn) -> World:
    """A commit and an answer of every system to it, details of the moving subjects included."""
    desired = draw(pinned_states())
    subjects = [Subject(environment=e, model=m) for e in desired.environments for m in desired.models]
    stored: dict[str, Evidence] = {}
    registered = {m: draw(registered_models(desired, m, stored)) for m in desired.models}
    engine = [run for model in desired.models for run in draw(runs(desired, model))]
    pulls = [
        draw(pull_requests(desired, subject, intent, number))
        for number, (subject, intent) in enumerate(((s, i) for s in subjects for i in INTENTS), start=1)
        if draw(st.integers(0, 4)) == 0
    ]
    strangers = [Subject(environment="gone", model="digits")] if draw(rarely) else []
    running = {
        str(subject): draw(workloads(desired, subject))
        for subject in [*subjects, *strangers]
        if draw(mostly if str(subject) in desired.releases else rarely)
    }
    swept = Swept(
        at=NOON,
        registries={"default": gap("registry default") if draw(rarely) else RegistrySweep(models=registered)},
        engine=gap("engine") if draw(rarely) else EngineSweep(runs={run.name: run for run in engine}),
        forge=gap("forge")
        if draw(rarely)
        else ForgeSweep(open={pull.number: pull for pull in pulls if pull.state == "open"}),
        clusters={"local": gap("cluster local") if draw(rarely) else ClusterSweep(workloads=running)},
    )
    moving = in_motion(desired, swept)
    hidden = draw(rarely)
    return World(
        desired,
        Observed(
            swept=swept,
            moving=moving,
            evidence={mark: document for mark, document in stored.items() if not draw(rarely)},
            pins={} if hidden else _histories(draw, desired, moving),
            proposals={p.number: Proposal(head=p.head, state=draw(_heads(desired, p))) for p in pulls},
            closed={
                branch_of(intent, subject): tuple(
                    p for p in pulls if p.branch == branch_of(intent, subject) and p.state != "open"
                )
                for subject in moving
                for intent in INTENTS
                if not draw(rarely)
            },
            gaps={str(s): gap(f"repository, about {s}") for s in moving if s.environment and draw(rarely)},
        ),
    )


@st.composite
def outlived_worlds(draw: DrawFn, *, archived: bool) -> World:
    """A sweep in which every retention is over, and most versions are of trainings that main had earlier."""
    desired, observed = draw(worlds())
    over = {
        name: environment.model_copy(update={"retention": Retention(for_=timedelta(0))})
        for name, environment in desired.environments.items()
    }
    registry = observed.swept.registries["default"]
    if isinstance(registry, RegistrySweep):
        found = {name: draw(_outlived(model, archived)) for name, model in registry.models.items()}
        registry = RegistrySweep(models=found)
    forge = observed.swept.forge
    if isinstance(forge, ForgeSweep):  # while one to roll back is open, nothing is concluded
        asked = {n: pull for n, pull in forge.open.items() if "/rollback/" not in pull.branch}
        forge = ForgeSweep(open=asked)
    swept = observed.swept.model_copy(update={"registries": {"default": registry}, "forge": forge})
    return World(
        desired.model_copy(update={"environments": over, "problems": ()}),
        observed.model_copy(update={"swept": swept}),
    )


@st.composite
def _outlived(draw: DrawFn, model: RegisteredModel, archived: bool) -> RegisteredModel:
    said = {TAG_ARCHIVED: str(Archived(number=1, at=NOON, by="trueup", why="no longer needed in dev"))}
    versions = []
    for version in model.versions:
        tags = {name: value for name, value in version.tags.items() if name != TAG_ARCHIVED}
        tags |= {TAG_KEY: "0" * 12} if draw(mostly) else {}
        tags |= said if archived and draw(mostly) else {}
        versions.append(version.model_copy(update={"tags": tags}))
    return model.model_copy(update={"versions": tuple(versions), "aliases": {}})


def _histories(draw: DrawFn, desired: DesiredState, moving: tuple[Subject, ...]) -> dict[str, PinHistory]:
    found = {}
    for subject in moving:
        release = desired.releases.get(str(subject))
        if release is None or subject.model not in desired.models:
            continue
        before = with_release(desired, subject, None, None)
        found[str(subject)] = PinHistory(
            commit="d" * 40,
            at=draw(instants),
            before=before,
            introduced=None if draw(rarely) else desired,
            past=tuple(draw(releases(desired, subject)) for _ in range(draw(st.integers(0, 2)))),
        )
    return found


@st.composite
def _heads(draw: DrawFn, desired: DesiredState, pull: PullRequest) -> DesiredState:
    """What the repository says at the head of a proposal; a removal's has no pin."""
    _, intent, environment, model = pull.branch.split("/")
    subject = Subject(environment=environment, model=model)
    if intent == "remove":
        return with_release(desired, subject, None, None)
    release = draw(releases(desired, subject))
    bundle = EvidenceBundle(candidate=release.pin.digest, evidence={}) if draw(st.booleans()) else None
    return with_release(desired, subject, release, bundle)
