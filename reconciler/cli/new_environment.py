"""`reconcile new-environment`: one more place where models serve, valid at once. No model goes there by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import console
from reconciler.cli.session import Session

if TYPE_CHECKING:
    from reconciler.core.desired import DesiredState
    from reconciler.core.documents import Environment


def new_environment(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As in production or eu-west.")],
    promotes_from: Annotated[
        list[str] | None,
        typer.Option(
            "--promotes-from",
            metavar="ENV",
            help="Whose verified versions are its candidates; of several, those that all have. "
            "Registry, cluster and what runs there are as in the first.",
            show_default=False,
        ),
    ] = None,
    policy: Annotated[
        str,
        typer.Option(
            "--policy", help="That of the first ENV, unless given.", metavar="NAME", show_default=False
        ),
    ] = "",
) -> None:
    """Write a new environment: its rules, with comments.

    Nothing is overwritten, committed or pushed, and no model is changed. What to do next is printed.
    """
    from reconciler.cli.starter import check_name, fill_in, put_together, tell_problems, working_tree
    from reconciler.core.references import environment_path

    repository = Session.of(context).repository
    root, state = repository.root, working_tree(repository)
    place = root / "environments" / name
    check_name(name, place, "new-environment")
    upstream = list(dict.fromkeys(promotes_from or ()))
    like = _like(state, upstream)
    with put_together(root, place) as staged:
        fill_in(
            "environment",
            staged,
            {
                "name": name,
                "upstream": upstream,
                "policy": _policy(state, policy or (like.policy if upstream else "")),
                "registry": like.registry,
                "alias": _alias(state, like, name),
                "cluster": _cluster(state, like, name),
                "sync": like.sync,
                "runtime": like.runtime.model_dump(mode="json", by_alias=True, exclude_defaults=True),
            },
        )
    console.write(f"wrote {environment_path(name)}\n\nnext:\n")
    console.write(
        f"  read it, and set who approves and how long a release soaks\n{_who_goes_there(state, name)}"
    )
    console.write(
        f"  git switch --create {name} && git add environments/{name} "
        f"&& git commit --message 'Environment {name}'\n"
        f"  git push --set-upstream origin {name} && reconcile pr open\n"
    )
    raise typer.Exit(tell_problems(working_tree(repository), f"environments/{name}"))


def _like(state: DesiredState, upstream: list[str]) -> Environment:
    """The environment after which the new one takes; Terminal where one of ``upstream`` is unknown."""
    from reconciler.core.documents import Environment
    from reconciler.core.errors import Terminal
    from reconciler.core.validation import nearest

    for name in upstream:
        if name not in state.environments:
            hint = nearest(name, state.environments, if_none="leave --promotes-from out: it is the first")
            raise Terminal(f"there is no environment {name}", hint=hint)
    if upstream:
        return state.environments[upstream[0]]
    registry, cluster = min(state.platform.registries), min(state.platform.clusters)
    given = {"kind": "Environment", "policy": "none", "alias": "none", "namespace": "none"}
    return Environment.model_validate(given | {"registry": registry, "cluster": cluster})


def _policy(state: DesiredState, policy: str) -> str:
    from reconciler.core.errors import Terminal
    from reconciler.core.validation import nearest

    if policy in state.policies:
        return policy
    known = nearest(policy, state.policies, if_none="add one to policies/")
    if not policy:
        raise Terminal("needs --policy NAME where it promotes from no other environment", hint=known)
    raise Terminal(f"there is no policy {policy}", hint=known)


def _alias(state: DesiredState, like: Environment, name: str) -> str:
    """Its own name, which no other environment of the registry has as its alias."""
    alias = name if name[0].isalpha() else f"env-{name}"
    taken = {e.alias for e in state.environments.values() if e.registry == like.registry}
    return f"{alias}-environment" if alias in taken else alias


def _cluster(state: DesiredState, like: Environment, name: str) -> str:
    """The cluster, if the namespace ``name`` may be used there; else Terminal."""
    from reconciler.core.errors import Terminal
    from reconciler.core.platform import ClusterKubernetes

    cluster = state.platform.clusters.get(like.cluster)
    if isinstance(cluster, ClusterKubernetes) and name not in cluster.namespaces:
        raise Terminal(
            f"the cluster {like.cluster} does not list the namespace {name}",
            where="environments/platform.yaml",
            hint=f"add {name} to clusters.{like.cluster}.namespaces, and give it the rights of deploy/serving",
        )
    return like.cluster


def _who_goes_there(state: DesiredState, name: str) -> str:
    """The line that a model needs to go there."""
    lines = []
    for model, source in sorted(state.models.items()):
        environments = ", ".join([*source.model.environments, name])
        lines.append(f"  in models/{model}/model.yaml, if it is to go there: environments: [{environments}]\n")
    return "".join(lines) or "  a model goes there when its model.yaml names it under environments\n"
