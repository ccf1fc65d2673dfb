"""Where pull requests are, and who acts there: trueup by the Platform's secret, a person by their own token."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from reconciler.bootstrap.process import PERSONS_TOKEN, PLATFORM, Clock, cache, now, require, secret
from reconciler.bootstrap.repository import Repository
from reconciler.core.errors import Terminal
from reconciler.core.platform import AnyForge, ForgeEmbedded, ForgeGitea, ForgeGitHub, Secret
from reconciler.ports import ForgePerson, ForgeReader, ForgeWriter

if TYPE_CHECKING:
    from reconciler.adapters.embedded.forge import EmbeddedForge
    from reconciler.adapters.mirror import Credentials


class Forge(ForgeReader, ForgeWriter, ForgePerson, Protocol):
    """Everything that can be asked of a forge."""


class RemoteForge(Forge, Protocol):
    """A forge elsewhere: the repository's address for Git there, and who fetches from it."""

    remote: str
    credentials: Credentials


def connect_forge(repository: Repository, named: AnyForge, clock: Clock = now) -> Forge:
    """The forge that the Platform names, as trueup. Terminal where its secret is missing."""
    return embedded_forge(repository, clock) if isinstance(named, ForgeEmbedded) else remote_forge(named, clock)


def connect_as_person(repository: Repository, named: AnyForge, clock: Clock = now) -> Forge:
    """The forge that the Platform names, as who types: by their own token, and never by trueup's."""
    if isinstance(named, ForgeEmbedded):
        return embedded_forge(repository, clock)
    require_persons_token()
    return remote_forge(by_token(named, PERSONS_TOKEN), clock)


def require_persons_token() -> None:
    require(PERSONS_TOKEN, "make one in your account's settings on the forge, and export it as TRUEUP_TOKEN")


def remote_forge(named: ForgeGitea | ForgeGitHub, clock: Clock = now) -> RemoteForge:
    """One case for each type of forge that is not of this machine."""
    match named:
        case ForgeGitea(url=url, repository=name, token=token):
            from reconciler.adapters.forges.gitea import GiteaForge

            require(token)
            return GiteaForge(
                url, name, lambda: secret(token), token_from=str(token), cache=cache(), clock=clock
            )
        case ForgeGitHub(url=url, repository=name, app=app):
            from reconciler.adapters.forges.github import GitHubForge
            from reconciler.adapters.forges.github_app import GitHubApp

            place = identity(named)
            require(place)

            def read() -> str:
                return secret(place)

            made = app and GitHubApp(
                url, app.id, app.installation, read, key_from=str(place), repository=name, clock=clock
            )
            return GitHubForge(url, name, made or read, token_from=str(place), clock=clock)


def embedded_forge(repository: Repository, clock: Clock = now) -> EmbeddedForge:
    """The bare repository that is origin, which must then be on this machine."""
    from reconciler.adapters.embedded.forge import EmbeddedForge

    folder = Path(repository.origin.removeprefix("file://"))
    if not repository.origin or not folder.is_dir():
        raise Terminal(
            "the embedded forge keeps its pull requests in origin, and that is no repository on this machine: "
            f"{re.sub('//[^/@]*@', '//', repository.origin) or 'there is none'}",
            where=PLATFORM,
            hint="point origin at a bare repository: git init --bare PATH; git remote set-url origin PATH",
        )
    return EmbeddedForge(folder, repository.person, clock)


def identity(named: ForgeGitea | ForgeGitHub) -> Secret:
    """The secret by which trueup is who it is there."""
    if isinstance(named, ForgeGitHub) and named.app is not None:
        return named.app.private_key
    assert named.token is not None  # one of the two is there: the document says so
    return named.token


def by_token(named: ForgeGitea | ForgeGitHub, token: Secret) -> ForgeGitea | ForgeGitHub:
    app = {"app": None} if isinstance(named, ForgeGitHub) else {}
    return named.model_copy(update={"token": token, **app})
