"""Writes the Release documents that pull requests carry, and the marks that versions carry."""

from __future__ import annotations

from reconciler.core.base import Subject
from reconciler.core.desired import blobs_digest
from reconciler.core.documents import Pin, Release
from reconciler.core.evidence import EvidenceBundle
from reconciler.core.plan import MarkVersion
from reconciler.planning.admission import inputs_digest
from reconciler.planning.judge import JUDGE
from reconciler.planning.renderers import blob_ids, render
from reconciler.planning.view import View


def with_digests(
    view: View, subject: Subject, draft: Release, *, policy: str = "", bundle: EvidenceBundle | None = None
) -> Release:
    """The draft with the digests of everything it is judged on, as admission will work them out again.

    ``policy`` is the digest of the policy where gates were asked, and empty on other grounds.
    """
    environment = view.environment(subject)
    judged = draft.admission.model_copy(update={"judge": JUDGE})
    draft = draft.model_copy(update={"admission": judged})
    files = render(subject.environment, environment, subject.model, draft)
    rendered = blobs_digest(blob_ids(files))
    inputs = inputs_digest(
        draft,
        policy=policy,
        bundle=bundle,
        champion=view.champion(subject),
        environment=view.environment_digest(subject),
        rendered=rendered,
        baselines=view.desired.models[subject.model].model.baselines,
    )
    digests = {
        "policy": policy or None,
        "evidence": bundle.digest if bundle else None,
        "inputs": inputs,
        "rendered": rendered,
    }
    return draft.model_copy(update={"admission": draft.admission.model_copy(update=digests)})


def mark_version(subject: Subject, pin: Pin, tag: str, value: str, reason: str) -> MarkVersion:
    """One of our tags on the version that ``pin`` names."""
    return MarkVersion(
        key=f"mark-version {pin.name}/{pin.version} {tag} {value}",
        subject=subject,
        reason=reason,
        registry=pin.registry,
        name=pin.name,
        version=pin.version,
        tag=tag,
        value=value,
    )
