"""The past, judged once more: what let a release in (``reconcile verify``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from reconciler.core.base import Subject
from reconciler.core.desired import DesiredState
from reconciler.core.documents import evidence_path
from reconciler.core.observed import Gap, Observed, Swept
from reconciler.core.proof import Proof
from reconciler.past import pins
from reconciler.planning.verification import marks_of, verify_pin
from reconciler.planning.view import View
from reconciler.ports import RegistryReader, Source
from reconciler.sweep import registry_sweeps, seen


def proofs(
    source: Source, subject: Subject, main: DesiredState, registries: Mapping[str, RegistryReader] | None
) -> Iterator[Proof]:
    """Every pin that main has had, newest first, worked out again; without ``registries`` from Git alone."""
    path = evidence_path(subject.environment, subject.model)
    sweeps = registry_sweeps(registries) if registries is not None else {}
    for place, history in enumerate(pins(source, subject)):
        assert history.introduced is not None
        release = history.introduced.releases[str(subject)]
        registered, stored = None, None
        if registries is not None:
            view = View(main, Observed(swept=Swept(at=history.at, registries=sweeps)))
            registered = view.registered(release.pin.registry, release.pin.name)
            stored = {
                str(mark): seen(f"evidence {mark.uri}", partial(registries[name].evidence, mark.uri))
                for name, mark in marks_of(history, subject)
                if not isinstance(registered, Gap)
            }
        file = source.files(history.commit).get(path)
        current = main if place == 0 and str(subject) in main.releases else None
        yield verify_pin(
            subject,
            history,
            evidence_file=file.oid if file else "",
            main=current,
            registered=registered,
            stored=stored,
        )
