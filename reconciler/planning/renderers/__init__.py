"""Release -> Kubernetes manifests, as texts: what is committed under environments/ENV/rendered/MODEL.

Called when a Release is proposed (its manifests go into the same pull request), before they are applied, and by
``render --check``. A Release names its renderer, and a renderer never changes what it makes of a Release: a new
look is a new entry in :data:`RENDERERS` with parts of its own, and old Releases keep the old one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from reconciler.core.canonical import dump_yaml
from reconciler.core.desired import blob_id
from reconciler.core.desired import blobs_digest as folder_digest
from reconciler.core.documents import Environment, Release
from reconciler.core.observed import ANNOTATION_RENDERED
from reconciler.core.serving import RendererName, ServingSnapshot
from reconciler.planning.renderers.deployment_v1 import deployment_v1
from reconciler.planning.renderers.parts import Part, Served
from reconciler.planning.renderers.rollout_v1 import rollout_v1


class Renderer(NamedTuple):
    """``make`` gives file name -> object; ``kinds`` are all it may make, as (API group, kind)."""

    make: Callable[[Served], dict[str, Part]]
    kinds: frozenset[tuple[str, str]]


_COMMON = {
    ("", "Service"),
    ("", "ServiceAccount"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("policy", "PodDisruptionBudget"),
}
RENDERERS: dict[RendererName, Renderer] = {
    "deployment/v1": Renderer(deployment_v1, frozenset(_COMMON | {("apps", "Deployment")})),
    "rollout/v1": Renderer(
        rollout_v1,
        frozenset(_COMMON | {("argoproj.io", "Rollout"), ("argoproj.io", "AnalysisTemplate")}),
    ),
}

_RENDERED_LINE = re.compile(rf"^ *{re.escape(ANNOTATION_RENDERED)}: .*\n", re.MULTILINE)


def render(
    environment_name: str, environment: Environment, model_name: str, release: Release
) -> dict[str, str]:
    """The manifests of a release: file name -> YAML. Empty for a model that does not serve (batch).

    Every object carries our labels, ``trueup.dev/release`` (the release's digest) and ``trueup.dev/rendered``
    (:func:`rendered_digest` of these files), so that a reader of the cluster sees both without the repository.
    """
    if not isinstance(release.serving, ServingSnapshot):
        return {}
    served = Served(environment_name, environment.namespace, model_name, release, release.serving)
    objects = RENDERERS[release.renderer].make(served)
    digest = rendered_digest({name: dump_yaml(item) for name, item in objects.items()})
    for item in objects.values():
        item["metadata"]["annotations"][ANNOTATION_RENDERED] = digest
    return {name: dump_yaml(item) for name, item in objects.items()}


def blob_ids(files: Mapping[str, str]) -> dict[str, str]:
    """File name -> Git blob id, as a commit lists the files that :func:`render` makes."""
    return {name: blob_id(text) for name, text in files.items()}


def rendered_digest(files: Mapping[str, str]) -> str:
    """What ``trueup.dev/rendered`` says: the folder's digest less the lines that say it; "" for no files."""
    if not files:
        return ""
    return folder_digest(blob_ids({name: _RENDERED_LINE.sub("", text) for name, text in files.items()}))
