"""`reconcile render`: the manifests of the Releases in the working tree; a new renderer for them."""

from __future__ import annotations

from typing import Annotated

import typer

from reconciler.cli import console
from reconciler.cli.session import Session, subject_of


def render(
    context: typer.Context,
    pair: Annotated[
        str, typer.Argument(metavar="[ENV/MODEL]", show_default=False, help="This release only.")
    ] = "",
    check: Annotated[
        bool,
        typer.Option("--check", help="Print nothing but differences to what is committed; exit code 1 if any."),
    ] = False,
    upgrade: Annotated[
        str,
        typer.Option(
            "--upgrade",
            metavar="ENV",
            show_default=False,
            help="Open a pull request for each release there that an older renderer made.",
        ),
    ] = "",
) -> None:
    """Print the manifests of releases, or check them.

    A release keeps its renderer until its next version. --upgrade promotes the same version with the new one.
    """
    if upgrade:
        if pair or check:
            raise typer.BadParameter("goes alone", param_hint="--upgrade")
        raise typer.Exit(_upgrade(Session.of(context), upgrade))
    from reconciler.bootstrap.sources import folder_source
    from reconciler.core.desired import blob_id
    from reconciler.core.documents import rendered_folder
    from reconciler.core.errors import Terminal
    from reconciler.load import load
    from reconciler.planning.renderers import render as render_release

    wanted = str(subject_of(pair)) if pair else ""
    source = folder_source(Session.of(context).repository)
    state = load(source, source.head())
    if wanted and wanted not in state.releases:
        raise Terminal(
            "there is no such release", where=wanted, hint="reconcile validate shows what does not parse"
        )
    different = 0
    rendered: dict[tuple[str, str], dict[str, str]] = {}
    for key in console.counted("rendering", sorted(state.releases.keys() | state.rendered.keys())):
        environment_name, _, model = key.partition("/")
        release, environment = state.releases.get(key), state.environments.get(environment_name)
        if (wanted and key != wanted) or environment is None:
            continue
        files = render_release(environment_name, environment, model, release) if release else {}
        rendered[environment_name, model] = files
    for (environment_name, model), files in rendered.items():
        folder = rendered_folder(environment_name, model)
        if not check:
            for name, text in sorted(files.items()):
                console.write(f"---\n# {folder}/{name}\n{text}")
            continue
        committed = state.rendered.get(f"{environment_name}/{model}", {})
        for name in sorted(files.keys() | committed.keys()):
            if name not in files:
                console.write(f"{folder}/{name}: belongs to no release\n")
            elif name not in committed:
                console.write(f"{folder}/{name}: is missing\n")
            elif committed[name] != blob_id(files[name]):
                console.write(f"{folder}/{name}: is not what this Release renders to\n")
            else:
                continue
            different += 1
    raise typer.Exit(1 if different else 0)


def _upgrade(session: Session, environment: str) -> int:
    """1 where a release could not be moved; each is told apart, and the others are moved."""
    from reconciler.apply import open_pull_request
    from reconciler.bootstrap.process import now
    from reconciler.core.errors import TrueupError
    from reconciler.loop import plan_once
    from reconciler.planning.in_motion import Scope
    from reconciler.planning.upgrade import outdated, upgrade

    refused = 0
    with console.working("asking the registry, the workflows, the forge and the cluster"):
        closely = Scope(environment=environment, closely=True)
        desired, observed, _ = plan_once(session.readers, now(), closely)
        subjects = outdated(desired, environment)
        for subject in subjects:
            try:
                wanted = upgrade(desired, observed, subject, session.repository.name)
                number = open_pull_request(wanted, session.writers.forge)
            except TrueupError as error:
                console.note(f"{subject}: {error}")
                refused += 1
            else:
                console.write(f"#{number}\n")
                console.note(f"{wanted.title}: {wanted.summary.merges}")
    if not subjects:
        console.note(f"every release of {environment} has its renderer")
    return int(bool(refused))
