"""Everything that trueup needs, looked at: for `reconcile doctor`. Each part by itself, and none for long.

What cannot be reached is asked by the same reads that a tick makes; adapters that know more say so by the port
:class:`reconciler.ports.Diagnosed`. Nothing is written, and no secret is in a finding.
"""

from __future__ import annotations

import configparser
import os
import platform as machine
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel

from reconciler.bootstrap.clusters import connect_cluster, connect_engine, connect_lease
from reconciler.bootstrap.forges import connect_forge
from reconciler.bootstrap.notifiers import connect_notifier
from reconciler.bootstrap.process import PLATFORM, cache, is_set, now, told
from reconciler.bootstrap.registries import connect_registries, tracking_uris
from reconciler.bootstrap.repository import Repository
from reconciler.bootstrap.sources import folder_source, git_source, platform_here
from reconciler.core.documents import Environment
from reconciler.core.errors import Terminal, TrueupError
from reconciler.core.finding import Finding, State
from reconciler.core.platform import ForgeEmbedded, NotifierTerminal, Platform, Secret
from reconciler.load import load
from reconciler.ports import Diagnosed
from reconciler.report.text import count

PATIENCE = 20.0
"""Seconds for all parts together: they are looked at side by side."""
OLDEST_GIT = (2, 38)
LEAST_FREE = 2 * 1024**3
"""Bytes below which a disk is warned about: a checkout, a data set and a model are to fit."""
MOST_SKEW = timedelta(seconds=30)


class Patient(NamedTuple):
    repository: Repository
    platform: Platform


Part = Callable[[Patient], Iterator[Finding]]


def examine(repository: Repository) -> list[Finding]:
    """All findings, in the order of the table. Never raises for what is wrong with a part."""
    findings: list[Finding] = []
    platform = Platform(kind="Platform")
    try:
        platform = platform_here(repository) or platform
    except TrueupError as error:
        findings.append(_failed("platform", error))
    patient = Patient(repository, platform)
    parts = {
        **PARTS,
        **{f"registry {name}": _registry(name) for name in sorted(platform.registries)},
        "engine": _engine,
        "lease": _lease,
        "forge": _forge,
        **{f"cluster {name}": _cluster(name) for name in sorted(platform.clusters)},
        **{f"notifier {name}": _notifier(name) for name in sorted(platform.notifiers)},
    }
    looks = [_Look(name, part, patient) for name, part in parts.items()]
    end = time.monotonic() + PATIENCE
    for look in looks:
        look.join(max(0.0, end - time.monotonic()))
        if look.found is None:
            hint = "see whether it is up and can be reached from here"
            findings.append(_say(look.check, "fail", f"did not answer within {PATIENCE:.0f} s", hint=hint))
        else:
            findings += look.found
    return findings


class _Look(threading.Thread):
    """One part, in a thread that ends with the process: a call that hangs holds nobody up."""

    def __init__(self, check: str, part: Part, patient: Patient) -> None:
        super().__init__(daemon=True)
        self.check, self._part, self._patient = check, part, patient
        self.found: list[Finding] | None = None
        self.start()

    def run(self) -> None:
        found: list[Finding] = []
        try:
            for finding in self._part(self._patient):
                found.append(finding)
        except TrueupError as error:
            found.append(_failed(self.check, error))
        except Exception as error:  # its text may be anything, a secret too
            if isinstance(error, OSError) and error.filename:
                found.append(_failed(self.check, told(error)))
            else:
                what = f"could not be looked at: {type(error).__name__}"
                found.append(Finding(check=self.check, state="fail", what=what, hint="please report it"))
        self.found = found


def _failed(check: str, error: TrueupError) -> Finding:
    return Finding(check=check, state="fail", what=error.what, where=error.where, hint=error.hint)


def _say(check: str, state: State, what: str, where: str = "", hint: str = "") -> Finding:
    return Finding(check=check, state=state, what=what, where=where, hint=hint)


# --- this machine -----------------------------------------------------------------------------------------


def _versions(_patient: Patient) -> Iterator[Finding]:
    check = "versions"
    said = subprocess.run(["git", "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"(\d+)\.(\d+)\S*", said)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_GIT:
        least = ".".join(map(str, OLDEST_GIT))
        yield _say(
            check, "fail", f"Git is {found[0] if found else 'not found'}", hint=f"install {least} or newer"
        )
    installed = {"trueup": _installed("trueup"), "mlflow": _installed("mlflow"), "dvc": _installed("dvc")}
    there = [f"Python {machine.python_version()}", f"Git {found[0]}" if found else "no Git"]
    there += [f"{name} {number}" for name, number in installed.items() if number]
    yield _say(check, "ok", ", ".join(there))
    if not installed["dvc"]:
        hint = "pip install 'trueup[steps]', where trainings run or data is added"
        yield _say(check, "warn", "the libraries of the steps are not installed here", hint=hint)


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _disk(patient: Patient) -> Iterator[Finding]:
    """The folders that are written to: whether they can be, and how much room there is."""
    places = {cache(): "TRUEUP_CACHE"}
    if patient.repository.clone is not None or os.environ.get("TRUEUP_HOME"):
        places[patient.repository.home] = "TRUEUP_HOME"
    for place, variable in sorted(places.items()):
        near = next(folder for folder in (place, *place.parents) if folder.exists())
        if not near.is_dir() or not os.access(near, os.W_OK | os.X_OK):
            what = "cannot be written to" if near.is_dir() else "is not a folder"
            hint = f"give this user the right to, or name another folder in {variable}"
            yield _say("disk", "fail", what, str(near), hint)
            continue
        free = shutil.disk_usage(near).free
        what = f"{free / 1024**3:.1f} GiB are free"
        if free < LEAST_FREE:
            yield _say("disk", "warn", what, str(place), "make room; the cache may be deleted at any time")
        else:
            yield _say("disk", "ok", what, str(place))


def _secrets(patient: Patient) -> Iterator[Finding]:
    """Of the Platform, by name. What they are is nobody's business."""
    missing = [str(place) for place in _named(patient.platform) if not is_set(place)]
    for place in missing:
        yield _say("secrets", "fail", f"{place} is not set", PLATFORM, "export it, or mount its file")
    number = len(list(_named(patient.platform)))
    if not missing:
        yield _say("secrets", "ok", f"{number} named, and all set" if number else "none is named", PLATFORM)


def _named(item: object) -> Iterator[Secret]:
    if isinstance(item, Secret):
        yield item
    elif isinstance(item, BaseModel):
        for name in type(item).model_fields:
            yield from _named(getattr(item, name))
    elif isinstance(item, dict):
        for value in item.values():
            yield from _named(value)


# --- the repository and its data --------------------------------------------------------------------------


def _repository(patient: Patient) -> Iterator[Finding]:
    check, repository = "repository", patient.repository
    if repository.clone is not None:
        asked = ["git", "rev-parse", "--is-shallow-repository"]
        said = subprocess.run(asked, cwd=repository.root, capture_output=True, text=True, check=False).stdout
        if said.strip() == "true":
            hint = "git fetch --unshallow"
            yield _say(check, "fail", "the clone is shallow, and history is read", str(repository.root), hint)
    head = git_source(repository).head()
    yield _say(check, "ok", f"origin is read; its default branch is at {head[:7]}", _bare(repository.origin))


def _data(patient: Patient) -> Iterator[Finding]:
    check, repository = "data", patient.repository
    if repository.clone is None:
        return
    config = configparser.ConfigParser(interpolation=None)
    config.read([repository.root / ".dvc/config", repository.root / ".dvc/config.local"])
    name = config.get("core", "remote", fallback="")
    if not name:
        hint = "dvc remote add --default NAME URL"
        yield _say(
            check, "warn", "there is no default DVC remote, from which steps fetch rows", ".dvc/config", hint
        )
        return
    url = config.get(f"'remote \"{name}\"'", "url", fallback="")
    if urlsplit(url).scheme:
        yield from _remote(check, name, repository.root)
        return
    folder = (repository.root / ".dvc" / url).resolve()
    if folder.is_dir():
        yield _say(check, "ok", f"the DVC remote {name} is there", str(folder))
    else:
        what, hint = f"the DVC remote {name} is not there", "`dvc push` makes it; nothing has been pushed yet"
        yield _say(check, "warn", what, str(folder), hint)


def _remote(check: str, name: str, root: Path) -> Iterator[Finding]:
    if not _installed("dvc"):
        yield _say(check, "warn", f"the DVC remote {name} was not asked: DVC is not installed", ".dvc/config")
        return
    from dvc.config import Config
    from dvc.fs import get_cloud_fs

    try:
        kind, settings, place = get_cloud_fs(Config(dvc_dir=str(root / ".dvc")), name=name)
        kind(**settings).exists(place)
    except Exception as error:  # each kind of remote has its own exceptions; their text may hold anything
        what = f"the DVC remote {name} does not answer: {type(error).__name__}"
        raise Terminal(what, where=".dvc/config", hint=f"dvc push --remote {name} says more") from None
    yield _say(check, "ok", f"the DVC remote {name} answers", ".dvc/config")


PARTS: dict[str, Part] = {
    "versions": _versions,
    "disk": _disk,
    "secrets": _secrets,
    "repository": _repository,
    "data": _data,
}
"""What is looked at whatever the Platform names. The systems that it names come after."""


# --- the systems ------------------------------------------------------------------------------------------


def _registry(name: str) -> Part:
    def look(patient: Patient) -> Iterator[Finding]:
        check = f"registry {name}"
        uri = tracking_uris(patient.repository, patient.platform)[name]
        database = Path(uri.removeprefix("sqlite:///"))
        if uri.startswith("sqlite:///") and not database.exists():
            yield _say(check, "ok", "is not made yet; the first tick makes it", str(database))
            return
        registry = connect_registries(patient.repository, patient.platform)[name]

        def read() -> Iterator[Finding]:
            yield _say(check, "ok", f"is read: {count(len(registry.sweep().models), 'model')}", _bare(uri))

        yield from _looked(check, registry, (), read)
        if uri.startswith(("http://", "https://")):
            yield from _clock(check, uri)

    return look


def _engine(patient: Patient) -> Iterator[Finding]:
    # Nothing is checked out, so that the engine can be looked at where origin cannot.
    whole = patient.repository.clone is not None
    source = folder_source(patient.repository) if whole else git_source(patient.repository)
    engine = connect_engine(patient.repository, patient.platform, source)

    def read() -> Iterator[Finding]:
        runs = count(len(engine.sweep().runs), "run")
        yield _say("engine", "ok", f"is read: {runs}", patient.platform.engine.type)

    yield from _looked("engine", engine, (), read)


def _lease(patient: Patient) -> Iterator[Finding]:
    """Only where it is in a cluster: what it needs on this machine is a file."""
    lease = connect_lease(patient.repository, patient.platform, now)
    yield from _looked("lease", lease, (), lambda: iter(()))


def _forge(patient: Patient) -> Iterator[Finding]:
    named = patient.platform.forge
    forge = connect_forge(patient.repository, named)

    def read() -> Iterator[Finding]:
        where = "embedded" if isinstance(named, ForgeEmbedded) else named.url
        pulls = count(len(forge.sweep().open), "open pull request")
        yield _say("forge", "ok", f"is read: {pulls}", where)

    yield from _looked("forge", forge, (), read)
    if not isinstance(named, ForgeEmbedded):
        yield from _clock("forge", named.url)


def _cluster(name: str) -> Part:
    def look(patient: Patient) -> Iterator[Finding]:
        check = f"cluster {name}"
        cluster = connect_cluster(patient.repository, patient.platform, name)
        here = [each for each in _environments(patient.repository) if each.cluster == name]

        def read() -> Iterator[Finding]:
            swept = cluster.sweep()
            yield _say(check, "ok", f"is read: {count(len(swept.workloads), 'workload')}")
            for namespace, gap in swept.gaps.items():
                yield _say(check, "fail", f"the namespace {namespace} was not read: {gap.error}")

        yield from _looked(check, cluster, here, read)

    return look


def _notifier(name: str) -> Part:
    """Nothing is sent: people would have to read it."""

    def look(patient: Patient) -> Iterator[Finding]:
        check, named = f"notifier {name}", patient.platform.notifiers[name]
        notifier = connect_notifier(named, lambda _: None)
        yield from _looked(check, notifier, (), lambda: iter(()))
        if isinstance(named, NotifierTerminal):
            yield _say(check, "ok", "tells whoever watches", named.type)

    return look


def _looked(
    check: str, system: object, environments: Sequence[Environment], read: Callable[[], Iterator[Finding]]
) -> Iterator[Finding]:
    """What the adapter itself says, under the name of its system, and what a read tells.

    A read that is refused says nothing new where the adapter knows what is missing.
    """
    known = False
    if isinstance(system, Diagnosed):
        for finding in system.diagnose(environments):
            known = known or finding.state == "fail"
            yield finding.model_copy(update={"check": check})
    try:
        yield from read()
    except Terminal:
        if not known:
            raise


def _environments(repository: Repository) -> Sequence[Environment]:
    """Those of the working tree, or of origin; none where they cannot be read, which another part says."""
    try:
        source = folder_source(repository) if repository.clone is not None else git_source(repository)
        return tuple(load(source, source.head()).environments.values())
    except TrueupError:
        return ()


def _clock(check: str, url: str) -> Iterator[Finding]:
    """How far a server's clock is from ours."""
    import httpx

    try:
        answer = httpx.get(url, timeout=PATIENCE / 4)
        sent = parsedate_to_datetime(answer.headers["Date"]) if "Date" in answer.headers else None
    except (httpx.HTTPError, ValueError):
        return  # whether it can be reached was said before
    skew = abs(datetime.now(UTC) - sent) if sent and sent.tzinfo else None
    if skew is not None and skew > MOST_SKEW:
        what = f"its clock and ours are {skew.total_seconds():.0f} s apart"
        yield _say(check, "warn", what, _bare(url), "let both keep time by NTP: soaks and evidence are timed")


def _bare(address: str) -> str:
    """An address without a user, a password or a query."""
    parts = urlsplit(address)
    if not parts.netloc:
        return address
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"
