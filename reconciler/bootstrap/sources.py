"""What is read of the repository: as its origin has it, as this clone has it, as it lies in the folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from reconciler.bootstrap.forges import RemoteForge, by_token, identity, remote_forge
from reconciler.bootstrap.process import PERSONS_TOKEN, PLATFORM, Clock, cache, is_set, now
from reconciler.bootstrap.repository import Repository
from reconciler.core.errors import Terminal
from reconciler.core.platform import ForgeEmbedded, ForgeGitea, ForgeGitHub, Platform
from reconciler.ports import Source

if TYPE_CHECKING:
    from reconciler.adapters.folder_source import FolderSource


def folder_source(repository: Repository) -> FolderSource:
    """The documents as they are in the working tree, for the commands that check before a push."""
    from reconciler.adapters.folder_source import FolderSource

    return FolderSource(repository.root)


def git_source(repository: Repository) -> Source:
    """The repository as its origin has it; fetched with the forge's token where origin is of that forge."""
    from reconciler.adapters.git_source import GitSource

    if not repository.origin:
        raise Terminal(
            "has no remote named origin, and trueup acts on what is pushed",
            where=str(repository.root),
            hint="git remote add origin URL",
        )
    forge = forge_of_origin(repository)
    if forge is not None:
        return GitSource(forge.remote, cache(), credentials=forge.credentials)
    return GitSource(repository.origin, cache())


def clone_source(repository: Repository) -> Source:
    """The branches of this clone, pushed or not, for judging what may be pushed."""
    from reconciler.adapters.git_source import GitSource

    return GitSource(str(repository.root), cache())


def forge_of_origin(repository: Repository, clock: Clock = now) -> RemoteForge | None:
    """The forge with whose token origin is fetched; None where Git's own set-up does.

    Who fetches must know it before the repository is there, so it is not main's Platform that is asked, but
    the file ``TRUEUP_PLATFORM`` or the working tree's. That one may be anybody's: the token goes to origin,
    and only where that is the address of the forge it belongs to. Who has not trueup's secret (a person's
    shell) fetches with their own token, or as their ``git fetch`` does.
    """
    if not repository.origin.startswith(("http://", "https://")):
        return None
    platform = platform_here(repository)
    if platform is None or isinstance(platform.forge, ForgeEmbedded):
        return None
    named: ForgeGitea | ForgeGitHub = platform.forge
    if not is_set(identity(named)):
        if not is_set(PERSONS_TOKEN):
            return None
        named = by_token(named, PERSONS_TOKEN)
    forge = remote_forge(named, clock)
    return forge if _place(forge.remote) == _place(repository.origin) else None


def platform_here(repository: Repository) -> Platform | None:
    """The Platform of ``TRUEUP_PLATFORM`` or the working tree; None without a file, Terminal if wrong."""
    from reconciler.core.strict_yaml import read
    from reconciler.core.validation import validate

    chosen = os.environ.get("TRUEUP_PLATFORM")
    path = Path(chosen) if chosen else (repository.clone or Path()) / PLATFORM
    if not chosen and (repository.clone is None or path.is_symlink() or not path.is_file()):
        return None  # where a link leads is nothing of the repository's, and an error would quote it
    try:
        content = path.read_bytes()
    except OSError as error:
        hint = "TRUEUP_PLATFORM names a copy of environments/platform.yaml"
        raise Terminal(f"cannot be read: {error.strerror}", where=str(path), hint=hint) from None
    found = validate(Platform, read(content, str(path)))
    if isinstance(found, Platform):
        return found
    line, what, hint = found[0]
    raise Terminal(what, where=f"{path}:{line}", hint=hint)


def _place(url: str) -> tuple[str, str, int | None, str]:
    """What two addresses of one repository share. A user's name is no part of it."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", port, parts.path.rstrip("/").removesuffix(".git").lower()
