"""`reconcile history`: what an environment has had of a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import console
from reconciler.cli.options import Format, Output, Pair
from reconciler.cli.session import Session, subject_of

if TYPE_CHECKING:
    from reconciler.core.base import Subject
    from reconciler.core.desired import DesiredState
    from reconciler.ports import Source
    from reconciler.report.history import Change


def history(
    context: typer.Context,
    pair: Pair,
    at: Annotated[
        str,
        typer.Option("--at", metavar="INSTANT", help="What main had then, in full; as in 2026-03-01T12:00Z."),
    ] = "",
    output: Output = Format.text,
) -> None:
    """List the releases an environment has had of a model.

    Since when, verified or failed, on what grounds and by which pull request. With --at, the one that main had
    then, and the numbers that let it in.
    """
    from reconciler.core.observed import RegistrySweep
    from reconciler.report import history as report
    from reconciler.report import json

    subject = subject_of(pair)
    instant = instant_of(at) if at else None
    session = Session.of(context)
    with console.working("reading the history of main"):
        readers = session.readers
        past = tuple(changes(session.source, subject, console.note))
        if not past:
            check_known(session.main, subject)
        sweeps = {name: reader.sweep() for name, reader in readers.registries.items()}
        entries = report.entries(
            past,
            readers.forge.merged(),
            {name: swept for name, swept in sweeps.items() if isinstance(swept, RegistrySweep)},
            subject.environment,
        )
    if instant is None:
        console.write(json.rows(entries)) if output is Format.json else console.show(
            report.blocks(entries, subject)
        )
        return
    entry = report.in_effect(entries, instant)
    if output is Format.json:
        console.write(json.rows([entry] if entry else []))
    else:
        console.show(report.details(entry, subject, instant))


def check_known(main: DesiredState, subject: Subject) -> None:
    """What never had a release may yet get one; what main does not name at all is a slip of the finger."""
    from reconciler.core.errors import Terminal

    if subject in main.subjects or main.hidden(subject):
        return
    known = ", ".join(str(one) for one in main.subjects if one.environment)
    raise Terminal(f"main has no {subject}", hint=f"it has {known or 'no model in an environment'}")


def changes(source: Source, subject: Subject, note: Callable[[str], None]) -> Iterator[Change]:
    """The Release at each commit of main that changed it, newest first. ``note`` gets what does not parse."""
    from reconciler.core.documents import Release, evidence_path, release_path
    from reconciler.core.evidence import EvidenceBundle
    from reconciler.core.strict_yaml import read
    from reconciler.core.validation import validate
    from reconciler.report.history import Change

    path = release_path(subject.environment, subject.model)
    beside = evidence_path(subject.environment, subject.model)
    source.head()
    for commit in source.log(path):
        files = source.files(commit.oid)
        oids = {name: files[name].oid for name in (path, beside) if name in files}
        texts = source.read(oids.values())
        if path not in oids:
            yield Change(commit.oid, commit.at, commit.author, None)
            continue
        release = validate(Release, read(texts[oids[path]], path))
        if not isinstance(release, Release):
            note(f"{path} at {commit.oid[:7]} does not parse: {release[0].what}")
            continue
        bundle = None
        if beside in oids:
            try:
                bundle = EvidenceBundle.model_validate_json(texts[oids[beside]])
            except ValueError:
                note(f"{beside} at {commit.oid[:7]} does not parse")
        yield Change(commit.oid, commit.at, commit.author, release, bundle)


def instant_of(text: str) -> datetime:
    """What ``--at`` says. A minute is its last instant: tables show minutes, and what began in one counts."""
    from reconciler.core.errors import Terminal

    hint = "write it as in 2026-03-01T12:00Z"
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise Terminal(f"{text!r} is not an instant", hint=hint) from error
    if instant.tzinfo is None:
        raise Terminal(f"{text!r} has no time zone", hint=hint)
    whole = re.fullmatch(r"[^T ]+[T ]\d\d:?\d\d(Z|[+-].*)", text)
    return instant + timedelta(minutes=1, microseconds=-1) if whole else instant
