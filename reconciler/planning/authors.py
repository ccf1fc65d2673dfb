"""Whose a version and a waiver are: what a gate leaves to a person is decided by another than who made it.

The author of a version is who opened the pull request that brought its training key to main. A waiver is of who
opened, approved or merged the pull request that brought it. :mod:`reconciler.look` asks the forge, for the
subjects of :func:`wanted`; admission asks about waivers, and proposals about approvals. docs/adr/0011.
"""

from __future__ import annotations

from typing import NamedTuple

from reconciler.core.base import Subject
from reconciler.core.documents import Waiver
from reconciler.core.observed import ModelVersion
from reconciler.planning.view import View


class People(NamedTuple):
    """Whom ``look`` asks the forge about. ``key``: the candidate's training key, empty if it has none."""

    key: str = ""
    waivers: tuple[Waiver, ...] = ()


NOBODY = People()


def wanted(view: View, subject: Subject, version: ModelVersion) -> People:
    """Only where it may matter: for a waiver that counts, or a pull request that waits for approvals."""
    if not _asked(view, subject):
        return NOBODY
    waivers = tuple(
        one for one in view.exceptions(subject).waivers if one.digest == version.digest and one.counts(view.at)
    )
    proposed = view.open_pull("promote", subject) is not None
    return People(version.training_key or "", waivers) if waivers or proposed else NOBODY


def authors(view: View, subject: Subject, version: ModelVersion | None) -> tuple[str, ...]:
    """Who made a version, and may not alone review it; nobody where that is not asked, or it was made
    elsewhere."""
    if version is None or version.training_key is None or not _asked(view, subject):
        return ()
    return view.observed.authors.get(f"{subject.model} {version.training_key}", ())


def against_waiver(view: View, subject: Subject, version: ModelVersion, waiver: Waiver) -> str:
    """Why a waiver does not count for a version; empty where it does."""
    if view.observed.waived_by is None or not _asked(view, subject):
        return ""
    people = view.observed.waived_by.get(waived(subject, waiver))
    if people is None:
        return "the forge was not asked who waived it"
    made = authors(view, subject, version)
    if set(people) - set(made):
        return ""
    return f"it is of {' and '.join(people) or 'nobody'} alone, who made this version; another has to order it"


def waived(subject: Subject, waiver: Waiver) -> str:
    """The key of a waiver in :attr:`reconciler.core.observed.Observed.waived_by`."""
    return f"{subject} {waiver.gate} {waiver.digest}"


def _asked(view: View, subject: Subject) -> bool:
    return (
        view.desired.platform.forge.knows_people and not view.environment(subject).promotion.authors_may_review
    )
