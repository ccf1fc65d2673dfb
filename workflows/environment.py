"""What was installed where a version was trained, with the hashes of the lock that it was installed from.

Step `train` writes it into the model's files (``environment.json``), so it is part of the artifact digest; step
`files` reads it. It holds what the model's requirements need, and what these need; nothing of this machine.
"""

from __future__ import annotations

import os
import platform
import re
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Literal, NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from reconciler.core.base import Frozen
from reconciler.core.digests import canonical_json, sha256
from reconciler.core.errors import Terminal
from workflows.model_files import read_beside

FILE = "environment.json"
VARIABLE = "TRUEUP_LOCK"
"""Names the lock of an image that was not made from the one that trueup ships."""
_LOCKS = ("workflows/locks/steps.txt", "deploy/locks/steps.txt")
"""Of a wheel, and of a checkout."""


class Package(Frozen):
    """``hashes``: of the files that the lock allows for this version; none where no lock does."""

    version: str
    hashes: tuple[str, ...] = ()


class Installed(Frozen):
    """The content of ``environment.json``. ``packages``: by normalised name."""

    format: Literal["1"] = "1"
    python: str
    platform: str
    packages: dict[str, Package]

    @classmethod
    def here(cls, requirements: Iterable[str], lock: str) -> Installed:
        """What these requirements need of what is installed here. ``lock``: the text of a requirements file."""
        allowed = {(line.name, line.version): line.hashes for line in read_requirements(lock)}
        found: dict[str, Package] = {}
        wanted = [Requirement(text).name for text in requirements]
        while wanted:
            name = canonicalize_name(wanted.pop())
            if name in found:
                continue
            try:
                known = distribution(name)
            except PackageNotFoundError:  # asked for on another platform only, or not there as a package
                continue
            # What came from a folder or an address did not come by the lock, whatever its version says.
            elsewhere = known.read_text("direct_url.json") is not None
            hashes = () if elsewhere else allowed.get((name, known.version), ())
            found[name] = Package(version=known.version, hashes=hashes)
            needs = map(Requirement, known.requires or ())
            wanted += [
                need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})
            ]
        return cls(
            python=platform.python_version(),
            platform=sysconfig.get_platform(),
            packages=dict(sorted(found.items())),
        )

    @property
    def digest(self) -> str:
        return sha256(canonical_json(self))

    def write(self, model: Path) -> None:
        (model / FILE).write_text(canonical_json(self) + "\n")


class Line(NamedTuple):
    """One requirement of a file. ``version`` is empty where it is not pinned by ``==``."""

    text: str
    name: str
    version: str
    hashes: tuple[str, ...]


def read_requirements(text: str) -> Iterator[Line]:
    """The requirements of a file in pip's format; an option such as ``-r`` or ``--index-url`` is one that pins
    nothing. https://pip.pypa.io/en/stable/reference/requirements-file-format/"""
    joined = re.sub(r"\\\r?\n", " ", text)
    for line in joined.splitlines():
        said = re.sub(r"(^|\s)#.*$", "", line).strip()
        if not said:
            continue
        asked, *options = re.split(r"\s+(?=--)", said)
        hashes = tuple(option.removeprefix("--hash=").strip() for option in options if "--hash=" in option)
        try:
            wanted = Requirement(asked)
        except InvalidRequirement:
            yield Line(asked, asked, "", ())
            continue
        exact = [s.version for s in wanted.specifier if s.operator in ("==", "===") and "*" not in s.version]
        version = exact[0] if len(wanted.specifier) == 1 and exact and wanted.url is None else ""
        yield Line(asked, canonicalize_name(wanted.name), version, hashes)


def lock_text() -> str:
    """Of the lock that this environment was installed from. Terminal if the named one cannot be read."""
    named = os.environ.get(VARIABLE)
    root = Path(__file__).parents[1]
    for path in [Path(named)] if named else [root / lock for lock in _LOCKS]:
        try:
            return path.read_text()
        except OSError as error:
            if named:
                raise Terminal(
                    f"names {named}, which cannot be read: {error.strerror}", where=VARIABLE
                ) from error
    return ""


def read_installed(model: Path) -> Installed | None:
    """Of the version in this folder; None where its files do not say. Terminal if damaged."""
    return read_beside(model, FILE, Installed)
