"""What most commands begin with: the repository around them, connected as its Platform says."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from reconciler.cli import console

if TYPE_CHECKING:
    from reconciler.bootstrap.repository import Repository
    from reconciler.core.base import Subject
    from reconciler.core.desired import DesiredState
    from reconciler.core.platform import AnyForge, Platform
    from reconciler.ports import Readers, Source, Writers


class Session:
    """One command's view: opened where ``-C`` says, connected when something is asked for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def of(cls, context: typer.Context) -> Session:
        """The session of this command; the root command put the directory there."""
        return cls(context.obj if isinstance(context.obj, Path) else Path())

    @cached_property
    def repository(self) -> Repository:
        from reconciler.bootstrap.repository import open_repository

        return open_repository(self.directory)

    @cached_property
    def source(self) -> Source:
        from reconciler.bootstrap.sources import git_source

        return git_source(self.repository)

    @cached_property
    def main(self) -> DesiredState:
        """What the default branch says now."""
        from reconciler.load import load

        return load(self.source, self.source.head())

    @property
    def platform(self) -> Platform:
        """Raises Terminal where its document is wrong: another platform would be worse than none."""
        from reconciler.bootstrap.process import PLATFORM

        wrong = next((p for p in self.main.problems if p.path == PLATFORM and p.severity == "error"), None)
        if wrong is not None:
            from reconciler.core.errors import Terminal

            raise Terminal(wrong.what, where=f"{wrong.path}:{wrong.line}", hint=wrong.hint)
        return self.main.platform

    @cached_property
    def connected(self) -> tuple[Readers, Writers]:
        from reconciler.bootstrap import connect

        return connect(self.repository, self.platform, self.source, tell=console.note)

    @cached_property
    def forge(self) -> AnyForge:
        """Which forge has the pull requests, for a person. Where their token is sent, only main says."""
        from reconciler.bootstrap.forges import require_persons_token
        from reconciler.bootstrap.sources import platform_here
        from reconciler.core.platform import ForgeEmbedded

        here = platform_here(self.repository)
        if here is not None and isinstance(here.forge, ForgeEmbedded):
            return here.forge  # it has no token, and nothing need be fetched to know it
        if here is not None:
            require_persons_token()  # rather than fail to fetch without it
        return self.platform.forge

    @property
    def readers(self) -> Readers:
        return self.connected[0]

    @property
    def writers(self) -> Writers:
        return self.connected[1]


def subject_of(text: str) -> Subject:
    """``ENV/MODEL`` as typed."""
    from pydantic import ValidationError

    from reconciler.core.base import Subject
    from reconciler.core.errors import Terminal

    environment, slash, model = text.partition("/")
    try:
        if slash and environment and model and "/" not in model:
            return Subject(environment=environment, model=model)
    except ValidationError:
        pass
    raise Terminal(f"{text!r} is not ENV/MODEL", hint="write it as in production/digits")
