"""What is wrong between documents that each parse: names that lead nowhere, circles, clashes, looser policies.

Pure. :mod:`reconciler.load` calls it for every commit it reads, and turns each Finding into a Problem with its
line. A release of a model that no longer names the environment is no finding: it is how a removal begins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import Literal, NamedTuple

from reconciler.core.approvals import missing
from reconciler.core.desired import ModelSource, Policy, Template
from reconciler.core.documents import (
    REPRODUCIBLE,
    Environment,
    Gate,
    GatePolicy,
    Model,
    PolicyTest,
    release_path,
)
from reconciler.core.evidence import CATALOGUE
from reconciler.core.platform import ClusterKubernetes, Platform
from reconciler.core.policies import loosenings, merge_gates
from reconciler.core.serving import STRATEGIES, Serving
from reconciler.core.strict_yaml import Path
from reconciler.core.validation import nearest

_CANARY = " or ".join(name for name, known in STRATEGIES.items() if "canary" in known)
STOCK_HINT = "`reconcile init` writes the stock templates to workflows/rendered"


class Finding(NamedTuple):
    """Something wrong with the field at ``field`` of the document at ``path``."""

    path: str
    field: Path
    what: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"


class Documents(NamedTuple):
    """One commit's documents by name. ``named`` also has, by kind, those that could not be read.

    No ``platform``: it could not be read, and nothing is said about what would be named in it.
    """

    platform: Platform | None
    environments: Mapping[str, Environment]
    policies: Mapping[str, GatePolicy]
    tests: Mapping[str, PolicyTest]
    models: Mapping[str, ModelSource]
    templates: Mapping[str, Template]
    releases: Collection[str]
    exceptions: Collection[str]
    named: Mapping[str, Collection[str]]
    files: Collection[str]


def environment_path(name: str) -> str:
    return f"environments/{name}/environment.yaml"


def model_path(name: str) -> str:
    return f"models/{name}/model.yaml"


def policy_path(name: str) -> str:
    return f"policies/{name}.yaml"


def policy_test_path(name: str) -> str:
    return f"policies/tests/{name}.yaml"


def exceptions_path(environment: str, model: str) -> str:
    return f"environments/{environment}/exceptions/{model}.yaml"


# --- policies ---------------------------------------------------------------------------------------------


def resolve_policies(documents: Documents) -> tuple[dict[str, Policy], list[Finding]]:
    """Every policy that can be used, with what it extends merged in; and what is wrong with the others."""
    policies = documents.policies
    lineages = {name: _lineage(name, policies) for name in sorted(policies)}
    findings = [found for lineage in lineages.values() for found in _policy(documents, lineage)]
    wrong = {found.path for found in findings}
    usable = {
        name: Policy(name=name, gates=_gates(lineage, policies), extends=policies[name].extends)
        for name, lineage in lineages.items()
        if policies[lineage[-1]].extends is None and not any(policy_path(each) in wrong for each in lineage)
    }
    return usable, findings


def _lineage(name: str, policies: Mapping[str, GatePolicy]) -> list[str]:
    """A policy and what it extends, up to the first that is not there or would come twice."""
    lineage = [name]
    while True:
        parent = policies[lineage[-1]].extends
        if parent is None or parent not in policies or parent in lineage:
            return lineage
        lineage.append(parent)


def _gates(lineage: list[str], policies: Mapping[str, GatePolicy]) -> tuple[Gate, ...]:
    gates: tuple[Gate, ...] = ()
    for name in reversed(lineage):
        gates = merge_gates(gates, policies[name].gates)
    return gates


def _policy(documents: Documents, lineage: list[str]) -> Iterator[Finding]:
    name, policies = lineage[0], documents.policies
    path, policy = policy_path(name), policies[name]
    if policy.extends is not None and policy.extends not in documents.named["GatePolicy"]:
        hint = nearest(policy.extends, policies.keys() - {name}, if_none="there is no other policy")
        yield Finding(path, ("extends",), f"extends the unknown policy {policy.extends}", hint)
    if policies[lineage[-1]].extends == name:
        circle = " -> ".join([*lineage, name])
        yield Finding(path, ("extends",), f"extends itself: {circle}", "remove one extends")
        return
    inherited = {gate.name: gate for gate in _gates(lineage[1:], policies)}
    for index, gate in enumerate(policy.gates):
        measurement = gate.measurement
        if measurement not in CATALOGUE:
            what = f"gate {gate.name} asks {gate.metric}, and there is no measurement {measurement}"
            yield Finding(path, ("gates", index, "metric"), what, nearest(measurement, CATALOGUE))
        if gate.name in inherited:
            for field, looser, hint in loosenings(inherited[gate.name], gate):
                what = f"gate {gate.name} {looser}, and a policy may only tighten what it extends"
                yield Finding(path, ("gates", index, *field), what, hint)
        yield from _notified(documents, path, ("gates", index, "notify"), gate.notify)
        for model in gate.when.models:
            # A model that is not here yet is no mistake; a name that is nearly that of another one is.
            hint = nearest(model, documents.named["Model"])
            if model not in documents.named["Model"] and hint.startswith("did you mean"):
                what = f"gate {gate.name} is for the unknown model {model}, so nothing is asked"
                yield Finding(path, ("gates", index, "when", "models"), what, hint)


def _tests(documents: Documents, policies: Mapping[str, Policy]) -> Iterator[Finding]:
    """Policies and gates that a test names and that are nowhere, so that nothing would be tested."""
    for name, test in documents.tests.items():
        path = policy_test_path(name)
        named = [policies[each] for each in test.policies if each in policies]
        for index, each in enumerate(test.policies):
            if each not in documents.named["GatePolicy"]:
                hint = nearest(each, policies, if_none="there is no policy")
                yield Finding(path, ("policies", index), f"tests the unknown policy {each}", hint)
        if len(named) < len(test.policies):
            continue  # the gates of a policy that cannot be read are not known
        gates = {gate.name for policy in named for gate in policy.gates}
        for index, case in enumerate(test.cases):
            named_there = [(("expect", gate), gate) for gate in case.expect]
            named_there += [(("waived", str(n)), gate) for n, gate in enumerate(case.waived)]
            for field, gate in named_there:
                if gate not in gates:
                    what = f"names the gate {gate}, which is in none of {', '.join(test.policies)}"
                    yield Finding(path, ("cases", index, *field), what, nearest(gate, gates))
        measured: list[tuple[Path, Collection[str]]] = [(("evidence",), test.evidence)]
        measured += [(("cases", index, "evidence"), case.evidence) for index, case in enumerate(test.cases)]
        for place, names in measured:
            for measurement in sorted(set(names) - CATALOGUE.keys()):
                what = f"has numbers of {measurement}, and there is no such measurement"
                yield Finding(path, (*place, measurement), what, nearest(measurement, CATALOGUE))


def _notified(documents: Documents, path: str, field: Path, names: tuple[str, ...]) -> Iterator[Finding]:
    known = documents.platform.notifiers if documents.platform else {*names}
    for n, name in enumerate(names):
        if name not in known:
            hint = nearest(name, known, if_none="add it to notifiers in environments/platform.yaml")
            yield Finding(path, (*field, n), f"names the unknown notifier {name}", hint)


# --- everything else --------------------------------------------------------------------------------------


def check(documents: Documents, policies: Mapping[str, Policy]) -> Iterator[Finding]:
    """Everything wrong between the documents, given the policies that :func:`resolve_policies` found usable."""
    yield from _environments(documents, policies)
    yield from _tests(documents, policies)
    yield from _models(documents)
    yield from _baselines(documents, policies)
    yield from _pins(documents)


def _environments(documents: Documents, policies: Mapping[str, Policy]) -> Iterator[Finding]:
    environments, known = documents.environments, documents.named["Environment"]
    of_alias: dict[tuple[str, str], list[str]] = {}
    for name, environment in sorted(environments.items()):
        of_alias.setdefault((environment.registry, environment.alias), []).append(name)
    for name, environment in environments.items():
        path = environment_path(name)
        yield from _policy_of(documents, path, environment, policies)
        yield from _notified(documents, path, ("notify",), environment.notify)
        platform = documents.platform
        for field, value, choices in (
            ("registry", environment.registry, platform.registries if platform else None),
            ("cluster", environment.cluster, platform.clusters if platform else None),
        ):
            if choices is not None and value not in choices:
                yield Finding(path, (field,), f"names the unknown {field} {value}", nearest(value, choices))
        cluster = platform.clusters.get(environment.cluster) if platform else None
        if isinstance(cluster, ClusterKubernetes) and environment.namespace not in cluster.namespaces:
            what = f"names the namespace {environment.namespace}, and {environment.cluster} does not list it"
            hint = f"add it to clusters.{environment.cluster}.namespaces in environments/platform.yaml"
            yield Finding(path, ("namespace",), what, hint)
        others = [other for other in of_alias[environment.registry, environment.alias] if other != name]
        if others:
            what = f"has the alias {environment.alias} of {', '.join(others)} on the same registry"
            yield Finding(path, ("alias",), what, "give each environment an alias of its own")
        if platform is not None:
            yield from _approvers(path, environment, platform)
        for upstream in environment.promotes_from.environments if environment.promotes_from else ():
            if upstream not in known:
                what = f"promotes from the unknown environment {upstream}"
                yield Finding(path, ("promotesFrom",), what, nearest(upstream, {*known} - {name}))
        if environment.promotes_from and "retrain_on" in environment.model_fields_set:
            what = "has retrainOn, which is asked only of environments without promotesFrom"
            yield Finding(path, ("retrainOn",), what, "say it where versions begin", "warning")
        circle = _circle(name, environments)
        if circle:
            what = f"promotesFrom goes in a circle: {' -> '.join(circle)}"
            hint = "let one of them promote from none"
            yield Finding(path, ("promotesFrom",), what, hint)


def _approvers(path: str, environment: Environment, platform: Platform) -> Iterator[Finding]:
    """A rule that nobody could ever meet: an unknown group, or too few people."""
    needs, groups, field = environment.promotion.approved_by, platform.groups, ("promotion", "approvedBy")
    unknown = [n for n, need in enumerate(needs) if need.group not in groups]
    for n in unknown:
        hint = nearest(needs[n].group, groups, if_none="add it to groups in environments/platform.yaml")
        yield Finding(path, (*field, n, "group"), f"names the unknown group {needs[n].group}", hint)
    small = [
        n for n, need in enumerate(needs) if n not in unknown and len(set(groups[need.group])) < need.count
    ]
    for n in small:
        has = len(set(groups[needs[n].group]))
        what = f"asks for {needs[n].count} approvals of the group {needs[n].group}, which has {has} in it"
        hint = f"add people to groups.{needs[n].group} in environments/platform.yaml"
        yield Finding(path, (*field, n, "count"), what, hint)
    everybody = {person for people in groups.values() for person in people}
    if not unknown and not small and missing(needs, groups, everybody):
        what = "asks for more people than there are in these groups together: each counts for one group"
        yield Finding(path, field, what, "add people to them in environments/platform.yaml")


def _policy_of(
    documents: Documents, path: str, environment: Environment, policies: Mapping[str, Policy]
) -> Iterator[Finding]:
    name, known = environment.policy, documents.named["GatePolicy"]
    if name not in known:
        hint = nearest(name, known, if_none=f"add {policy_path(name)}")
        yield Finding(path, ("policy",), f"names the unknown policy {name}", hint)
        return
    if name not in policies:
        hint = "correct that policy or what it extends"
        yield Finding(path, ("policy",), f"names the policy {name}, which has an error", hint)
        return
    for measurement in sorted({gate.measurement for gate in policies[name].gates}):
        template = CATALOGUE[measurement].template
        if template not in documents.templates:
            is_there = template in documents.named["WorkflowTemplate"]
            what = f"names the policy {name}, which needs the workflow template {template}"
            yield Finding(
                path,
                ("policy",),
                f"{what}, which has an error" if is_there else f"{what}, which is not there",
                f"correct workflows/rendered/{template}.yaml" if is_there else STOCK_HINT,
            )
            continue
        unpinned = documents.templates[template].unpinned if environment.promotes_from else ()
        for image in unpinned:
            what = f"promotes what {template} measured, whose image {image} has no digest"
            yield Finding(
                path, ("policy",), what, f"write NAME@sha256:DIGEST in workflows/rendered/{template}.yaml"
            )


def _circle(start: str, environments: Mapping[str, Environment]) -> list[str]:
    """The shortest way along promotesFrom from an environment back to itself; empty if there is none."""
    ways = [[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        here = environments.get(way[-1])
        for upstream in here.promotes_from.environments if here and here.promotes_from else ():
            if upstream == start:
                return [*way, start]
            if upstream not in seen:
                seen.add(upstream)
                ways.append([*way, upstream])
    return []


def _models(documents: Documents) -> Iterator[Finding]:
    of_name: dict[str, list[str]] = {}
    for name, source in sorted(documents.models.items()):
        of_name.setdefault(source.model.registered_name, []).append(name)
    for name, source in documents.models.items():
        path, model = model_path(name), source.model
        others = [other for other in of_name[model.registered_name] if other != name]
        if others:
            what = f"has the registeredName {model.registered_name} of {', '.join(others)}"
            yield Finding(path, ("registeredName",), what, "give each model a name of its own")
        yield from _data(documents, name, source)
        yield from _training(documents, name, source)
        yield from _pool(documents, path, model)
        yield from _images(documents, path, model)
        yield from _wanted_in(documents, path, model)


def _data(documents: Documents, name: str, source: ModelSource) -> Iterator[Finding]:
    path, data = model_path(name), source.model.data
    for use, data_set in (("train", data.train), ("evaluation", data.evaluation)):
        if data_set is not None and f"models/{name}/{data_set.pointer}" not in documents.files:
            what = f"data.{use} names models/{name}/{data_set.pointer}, which is not there"
            yield Finding(path, ("data", use, "pointer"), what, "make it with `dvc add` and commit it")
    for use, columns in (("slices", data.evaluation.slices), ("protected", data.evaluation.protected)):
        if data.evaluation.target in columns:
            what = f"data.evaluation.{use} names the target {data.evaluation.target}"
            hint = "slice by columns that are known before the answer is"
            yield Finding(path, ("data", "evaluation", use), what, hint)
    yield from _contract(name, source)
    if source.train_md5 and source.train_md5 == source.evaluation_md5:
        what = "data.evaluation is the same data as data.train, so its numbers say nothing about new rows"
        yield Finding(path, ("data", "evaluation"), what, "hold rows out for the evaluation", "warning")


def _contract(name: str, source: ModelSource) -> Iterator[Finding]:
    """A contract that no rows could keep, and a suite that is not there."""
    path, data, field = model_path(name), source.model.data, ("data", "contract")
    if data.contract is None:
        return
    if data.contract.suite is not None and not source.suite:
        what = f"data.contract.suite names models/{name}/{data.contract.suite}, which is not there"
        yield Finding(path, (*field, "suite"), what, "commit the suite, as Great Expectations writes it")
    columns = data.contract.each
    if columns and data.contract.others == "refuse":
        for column in (data.evaluation.target, *data.evaluation.slices):
            if column not in columns:
                what = f"data.contract refuses columns that it does not name, and {column} is one"
                yield Finding(path, (*field, "columns"), what, "name it there, or: others: allow")


def _training(documents: Documents, name: str, source: ModelSource) -> Iterator[Finding]:
    path, workflow = model_path(name), source.model.training.workflow
    if workflow is None:
        return
    known = documents.named["WorkflowTemplate"]
    if workflow not in known:
        hint = nearest(workflow, known, if_none=STOCK_HINT)
        yield Finding(path, ("training", "workflow"), f"names the unknown workflow template {workflow}", hint)
    elif workflow not in documents.templates:
        what = f"names the workflow template {workflow}, which has an error"
        yield Finding(path, ("training", "workflow"), what, f"correct workflows/rendered/{workflow}.yaml")
    elif (
        source.model.training.search
        and not {"search", "stages"} <= documents.templates[workflow].parameters.keys()
    ):
        what = f"searches, and the workflow template {workflow} has no parameter search"
        yield Finding(path, ("training", "search"), what, "train with train-v1, or remove search")
    if source.model.training.reproduce and workflow != REPRODUCIBLE:
        what = f"reproduces what {workflow} trains, and only {REPRODUCIBLE}'s trainings can be made once more"
        yield Finding(path, ("training", "reproduce"), what, f"train with {REPRODUCIBLE}, or remove reproduce")
    yield from _retraining(documents, path, source.model)
    if not source.source_tree:
        what = f"trains by workflow, and there is no code in models/{name}/src"
        yield Finding(path, ("training", "workflow"), what, "commit the training code there")


def _retraining(documents: Documents, path: str, model: Model) -> Iterator[Finding]:
    """A schedule that nobody asks for, and a budget of hours that nobody could count."""
    retrain, platform = model.training.retrain, documents.platform
    here = [documents.environments.get(name) for name in model.environments]
    roots = [environment for environment in here if environment and environment.promotes_from is None]
    if retrain.schedule and roots and not any("schedule" in root.retrain_on for root in roots):
        what = "has a schedule, and no environment that it is trained for names it"
        yield Finding(path, ("training", "retrain", "schedule"), what, "add schedule to retrainOn there")
    if retrain.hours_per_day and platform and platform.engine.keep < timedelta(days=1):
        what = "has hoursPerDay, and runs that engine.keep lets go within the day cannot be counted"
        hint = "engine.keep: 1d in environments/platform.yaml"
        yield Finding(path, ("training", "retrain", "hoursPerDay"), what, hint)


def _images(documents: Documents, path: str, model: Model) -> Iterator[Finding]:
    """An image without a digest may be another one tomorrow. It may make what is tried out, and nothing that is
    promoted: no model that goes where versions of other environments go."""
    template = documents.templates.get(model.training.workflow or "")
    onward = [
        name
        for name in model.environments
        if name in documents.environments and documents.environments[name].promotes_from is not None
    ]
    for image in template.unpinned if template and onward else ():
        used = f"trains with {model.training.workflow}, whose image {image} has no digest"
        what = f"{used}, and goes to {onward[0]}"
        hint = f"write NAME@sha256:DIGEST in workflows/rendered/{model.training.workflow}.yaml"
        yield Finding(path, ("training", "workflow"), what, hint)


def _pool(documents: Documents, path: str, model: Model) -> Iterator[Finding]:
    compute = model.training.compute
    if compute.pool is None or documents.platform is None:
        return
    pools, field = documents.platform.engine.pools, ("training", "compute", "pool")
    if compute.pool not in pools:
        hint = nearest(compute.pool, pools, if_none="add it to engine.pools in environments/platform.yaml")
        yield Finding(path, field, f"names the unknown pool {compute.pool}", hint)
    elif compute.spot and pools[compute.pool].spot is None:
        what = f"asks for spot nodes, and the pool {compute.pool} has none"
        yield Finding(path, (*field[:2], "spot"), what, "say `spot:` in that pool of the Platform")


def _baselines(documents: Documents, policies: Mapping[str, Policy]) -> Iterator[Finding]:
    """Baselines that gates compare with, and that a model does not declare: such a gate has no answer."""
    for name, source in documents.models.items():
        model = source.model
        environments = [documents.environments[e] for e in model.environments if e in documents.environments]
        told = set(model.baselines)
        for policy in dict.fromkeys(environment.policy for environment in environments):
            for gate in policies[policy].gates if policy in policies else ():
                metric = gate.metric.partition(".")[2]
                meant = gate.when.meant(name, model.task, source.declared)
                if metric in told or not gate.needs_baseline or not meant:
                    continue
                told.add(metric)
                what = f"has no baseline for {metric}, and gate {gate.name} of policy {policy} compares with it"
                hint = f"add {metric} to baselines: the value that this model promises to keep"
                yield Finding(model_path(name), ("baselines",), what, hint, "warning")


def _wanted_in(documents: Documents, path: str, model: Model) -> Iterator[Finding]:
    known = documents.named["Environment"]
    for index, environment in enumerate(model.environments):
        if environment not in known:
            hint = nearest(environment, known, if_none=f"add {environment_path(environment)}")
            yield Finding(path, ("environments", index), f"names the unknown environment {environment}", hint)
    if isinstance(model.serving, str):
        return
    for environment in model.serving.overrides:
        if environment not in known:
            what = f"serving.overrides names the unknown environment {environment}"
            yield Finding(path, ("serving", "overrides", environment), what, nearest(environment, known))
    for name in model.environments:
        if name in documents.environments:
            yield from _served_in(path, model.serving, name, documents.environments[name])


def _served_in(path: str, serving: Serving, name: str, environment: Environment) -> Iterator[Finding]:
    """What the environment's renderer cannot do of what is asked for."""
    override, runtime = serving.overrides.get(name), environment.runtime
    strategy = serving.strategy_in(name, runtime.renderer)
    here: Path = ("serving", "overrides", name) if override else ("serving",)
    if strategy not in STRATEGIES[runtime.renderer]:
        field: Path = (*here, "strategy") if override and override.strategy else ("serving", "strategy")
        can = " or ".join(STRATEGIES[runtime.renderer])
        others = " or ".join(other for other, known in STRATEGIES.items() if strategy in known)
        what = f"asks for the strategy {strategy}, and {name} renders with {runtime.renderer}, which does {can}"
        yield Finding(path, field, what, f"runtime.renderer: {others} in {environment_path(name)}")
        return
    if strategy == "canary" and serving.canary_in(name).analysis != "none" and runtime.prometheus is None:
        field = (*here, "canary") if override and override.canary else ("serving",)
        what = f"is a canary with analysis in {name}, which names no Prometheus"
        hint = f"runtime.prometheus in {environment_path(name)}, or canary.analysis: none"
        yield Finding(path, field, what, hint)
    snapshot = serving.resolve(name, runtime, runtime.renderer)
    if snapshot.canary is not None and not runtime.istio:
        weight, pods = snapshot.canary.steps[0].weight, snapshot.replicas
        if weight * pods < 100:
            what = f"begins its canary in {name} with {weight} percent of {pods} pod{'s' * (pods > 1)}, "
            hint = f"{-(-100 // weight)} replicas, or weights by runtime.istio"
            yield Finding(path, ("serving",), f"{what}which is less than one and so takes one", hint, "warning")
    if strategy != "canary" and override is not None and override.canary is not None:
        what = f"has steps for {name}, which serves by the strategy {strategy}"
        yield Finding(path, (*here, "canary"), what, f"strategy: canary there, on {_CANARY}")


def _pins(documents: Documents) -> Iterator[Finding]:
    """Releases and exceptions whose environment or model is not there."""
    pins = [(key, release_path, "release") for key in documents.releases]
    pins += [(key, exceptions_path, "exceptions") for key in documents.exceptions]
    environments, models = documents.named["Environment"], documents.named["Model"]
    for key, path_of, kind in pins:
        environment, model = key.split("/")
        path = path_of(environment, model)
        if environment not in environments:
            hint = nearest(environment, environments, if_none=f"add {environment_path(environment)}")
            yield Finding(path, (), f"is for the unknown environment {environment}", hint)
        elif model not in models and kind == "release":
            what = f"pins the model {model}, and there is no {model_path(model)}"
            hint = f"restore it without {environment} in its environments, which opens a removal"
            yield Finding(path, (), what, hint)
        elif model not in models:
            yield Finding(
                path, (), f"is for the unknown model {model}", nearest(model, models, if_none="remove it")
            )
