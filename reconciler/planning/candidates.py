"""Which version, served how, should be in an environment next; never "the highest number".

In an environment without ``promotesFrom`` it is the newest version of the training that main describes now;
in the others it is what the environments before it have verified.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from reconciler.core.base import Instant, Subject
from reconciler.core.documents import Pin, Release, VerifiedPin, release_digest
from reconciler.core.observed import Gap, ModelVersion, RegisteredModel
from reconciler.core.plan import Hold
from reconciler.core.serving import STRATEGIES, RendererName, ServingSnapshot
from reconciler.planning.holds import hold, unanswered
from reconciler.planning.view import Change, View


class Candidate(NamedTuple):
    """What could be pinned next. ``change`` is None where it is what is pinned already."""

    version: ModelVersion
    pin: Pin
    serving: ServingSnapshot | Literal["none"]
    image: str
    renderer: RendererName
    change: Change | None

    @property
    def release(self) -> str:
        """The digest that a Release of this candidate has."""
        return release_digest(self.pin, self.image, self.serving, self.renderer)


def candidate(
    view: View, subject: Subject, upgrade: bool = False, ordered: ModelVersion | None = None
) -> Candidate | Hold:
    """The candidate of one environment and model, or why there is none.

    The version that a person orders comes before the one by rule while that pull request is open, and after
    its merge until one comes that is younger than the order. ``ordered``: such a version, before there is a
    pull request. A pin keeps its renderer while it is what is wanted. ``upgrade``: the environment's renderer
    is wanted too, as it is where a person's open pull request asks for that.
    """
    environment, model = view.environment(subject), view.model(subject)
    registered = view.registered(environment.registry, model.registered_name)
    if isinstance(registered, Gap):
        return unanswered(subject, registered)
    release = view.release(subject)
    version = ordered or _ordered(view, subject, registered)
    if version is None:
        came = by_rule(view, subject)
        version = _standing(view, release, came) or (came if isinstance(came, Hold) else came.version)
    if isinstance(version, Hold):
        return version
    pinned = release is not None and release.pin.digest == version.digest
    change: Change | None = "version"
    if release is not None and pinned:
        moved = release.renderer != environment.runtime.renderer and (upgrade or _asked_for(view, subject))
        same = release.serving == _serving(view, subject, release, release.renderer)
        change = None if same and not moved else "serving"
    serving = _serving(view, subject, release, environment.runtime.renderer)
    if version.digest is None and not pinned:
        return hold(
            "version-missing",
            subject,
            f"version {version.version} carries no trueup.digest tag, so its identity is not known; `reconcile-"
            f"step identify --registered-name {model.registered_name} --version {version.version}` tags it",
        )
    pin = (
        release.pin
        if release is not None and pinned
        else Pin(
            registry=environment.registry,
            name=model.registered_name,
            version=version.version,
            digest=version.digest or "",
        )
    )
    wanted = Candidate(
        version, pin, serving, view.desired.platform.images.server, environment.runtime.renderer, change
    )
    rejected = release and change and release.rejects(pin.digest, wanted.release)
    if rejected:
        return _rejected(subject, rejected.version, rejected.reason)
    return wanted


class Came(NamedTuple):
    """The version that an environment's rule chooses, and when it was registered, or verified upstream."""

    version: ModelVersion
    at: Instant


def by_rule(view: View, subject: Subject) -> Came | Hold:
    """What would be the candidate if nobody had ordered anything."""
    environment, model = view.environment(subject), view.model(subject)
    registered = view.registered(environment.registry, model.registered_name)
    if isinstance(registered, Gap):
        return unanswered(subject, registered)
    if environment.promotes_from is not None:
        return _verified_upstream(view, subject, registered)
    version = _newly_trained(view, subject, registered, view.release(subject))
    return version if isinstance(version, Hold) else Came(version, version.created)


def _ordered(view: View, subject: Subject, registered: RegisteredModel) -> ModelVersion | Hold | None:
    """The version that a person's open pull request asks for."""
    existing = view.open_pull("promote", subject)
    marker = existing.marker if existing else None
    if existing is None or marker is None or not marker.version:
        return None
    version = registered.version(marker.version)
    if version is not None and version.ready and version.digest == marker.candidate:
        return version
    return hold(
        "version-missing",
        subject,
        f"version {marker.version}, ordered by {marker.asked_by} (#{existing.number}), is not in the registry",
    )


def _standing(view: View, release: Release | None, came: Came | Hold) -> ModelVersion | None:
    """The pinned version, where a person ordered it and no other one came later."""
    order = release.admission.order if release else None
    if release is None or order is None:
        return None
    unseen = isinstance(came, Hold) and came.code in ("gap", "invalid-document")
    younger = isinstance(came, Came) and came.at > order.at
    return None if unseen or younger else view.version_of(release)


class Coming(NamedTuple):
    """A version that an environment before this one has and has not verified.

    It becomes the candidate of ``then`` when all of ``by`` have verified it. ``pinned``: ``environment``
    runs it already, and else it is only the candidate there.
    """

    environment: str
    version: str
    pinned: bool
    by: tuple[str, ...]
    then: str


def coming(view: View, subject: Subject) -> tuple[Coming, ...]:
    """What is on its way to one environment, by way of the nearest ones before it that have something new.

    No hold: until it is verified there, this environment wants what it has. Only ``reconcile explain`` asks.
    """
    promotes_from, release = view.environment(subject).promotes_from, view.release(subject)
    found: list[Coming] = []
    for name in promotes_from.environments if promotes_from else ():
        upstream = Subject(environment=name, model=subject.model)
        if name not in view.desired.environments or view.desired.hidden(upstream):
            continue
        there = _not_verified(view, upstream)
        if there is None:
            found += coming(view, upstream)
        elif release is None or not release.rejects(there[0].digest):
            by = promotes_from.all_of if promotes_from and promotes_from.all_of else (name,)
            found.append(Coming(name, there[0].version, there[1], by, subject.environment))
    return tuple(dict.fromkeys(found))


def _not_verified(view: View, subject: Subject) -> tuple[Pin, bool] | None:
    """The pin, or else the candidate, that is yet to be verified there; the flag says that it is pinned."""
    release = view.release(subject)
    if release is not None and isinstance(view.registered(release.pin.registry, release.pin.name), Gap):
        return None
    if release is not None and view.verified_at(subject.environment, release) is None:
        return release.pin, True
    wanted = candidate(view, subject)
    return None if isinstance(wanted, Hold) or wanted.change is None else (wanted.pin, False)


def _newly_trained(
    view: View, subject: Subject, registered: RegisteredModel, release: Release | None
) -> ModelVersion | Hold:
    model = view.model(subject)
    if model.training.external is not None:
        alias = model.training.external.alias
        number = registered.aliases.get(alias, "")
        version = registered.version(number)
        if version is None:
            return hold(
                "external-version-missing",
                subject,
                f"no version of {model.registered_name} carries the alias {alias!r}; set it to request one",
            )
        return version
    key = view.desired.training_key(subject.model)
    trained = [v for v in registered.versions if v.training_key == key and v.digest is not None and v.ready]
    if not trained:
        return hold(
            "not-trained",
            subject,
            f"no version of training key {key} yet; see what is said of {subject.model} itself",
        )
    usable = [v for v in trained if not (release and v.digest and release.rejects(v.digest))]
    if not usable:
        entry = release.rejects(trained[-1].digest or "") if release else None
        return _rejected(subject, trained[-1].version, entry.reason if entry else "")
    return usable[-1]


def _rejected(subject: Subject, version: str, reason: str) -> Hold:
    return hold(
        "rejected",
        subject,
        f"version {version} was rejected in {subject.environment}: {reason}; change the training, or lift the "
        "entry under `rejected` in its Release by a reviewed pull request",
    )


def _verified_upstream(view: View, subject: Subject, registered: RegisteredModel) -> Came | Hold:
    promotes_from = view.environment(subject).promotes_from
    assert promotes_from is not None
    found: dict[str, VerifiedPin] = {}
    for name in promotes_from.environments:
        upstream = Subject(environment=name, model=subject.model)
        hidden = view.desired.hidden(upstream)
        if hidden:
            return hold("invalid-document", subject, str(hidden))
        pinned = view.release(upstream)
        there = view.registered(pinned.pin.registry, pinned.pin.name) if pinned else None
        if isinstance(there, Gap):
            return unanswered(subject, there)
        champion = view.champion(upstream) if name in view.desired.environments else None
        if champion is not None:
            found[name] = champion
    missing = [name for name in promotes_from.environments if name not in found]
    if promotes_from.all_of and missing:
        return hold(
            "upstream-not-verified", subject, f"waits until {' and '.join(missing)} has verified a version"
        )
    if not found:
        names = " or ".join(promotes_from.environments)
        return hold("upstream-not-verified", subject, f"waits until {names} has verified a version")
    if promotes_from.all_of and len({pin.digest for pin in found.values()}) > 1:
        said = ", ".join(f"{name} has version {pin.version}" for name, pin in sorted(found.items()))
        return hold("upstream-not-verified", subject, f"waits until all have verified the same version: {said}")
    wanted = max(found.values(), key=lambda pin: (pin.at, pin.digest))
    here = _same_artifacts(registered, wanted)
    if here is not None:
        return Came(here, wanted.at)
    return hold(
        "version-missing",
        subject,
        f"version {wanted.version} ({wanted.digest[7:19]}), verified upstream, is not in the registry "
        f"{view.environment(subject).registry}",
    )


def _same_artifacts(registered: RegisteredModel, wanted: VerifiedPin) -> ModelVersion | None:
    equal = [v for v in registered.versions if v.ready and v.digest == wanted.digest]
    named = [v for v in equal if v.version == wanted.version]
    adopted = [v for v in registered.versions if v.ready and v.digest is None and v.version == wanted.version]
    return next(iter(named + equal[::-1] + adopted), None)


def _asked_for(view: View, subject: Subject) -> bool:
    """Whether a person's open pull request moves this pin to the environment's renderer."""
    existing = view.open_pull("promote", subject)
    marker = existing.marker if existing else None
    return marker is not None and bool(marker.asked_by) and not marker.version


def _serving(
    view: View, subject: Subject, release: Release | None, renderer: RendererName
) -> ServingSnapshot | Literal["none"]:
    """main's serving section, once every environment before this one has verified its own form of it."""
    model, environment = view.model(subject), view.environment(subject)
    wanted = model.serving_in(subject.environment, environment.runtime, renderer)
    if environment.promotes_from is None or release is None:
        return wanted
    if release.serving != "none" and release.serving.strategy not in STRATEGIES[renderer]:
        return wanted
    for name in environment.promotes_from.environments:
        upstream = view.desired.releases.get(f"{name}/{subject.model}")
        if upstream is None or name not in view.desired.environments:
            return release.serving
        runtime = view.desired.environments[name].runtime
        if upstream.serving != model.serving_in(name, runtime, upstream.renderer):
            return release.serving
        if view.verified_at(name, upstream) is None:
            return release.serving
    return wanted
