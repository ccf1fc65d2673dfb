"""Where planted secrets come to light: in texts that a test hands over, and in processes while it watches."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

PERIOD = 0.05
"""Seconds from one look at all processes to the next."""


class Seen(NamedTuple):
    """A secret by its name, where it was seen, and in which program."""

    secret: str
    where: str
    program: str


class Exposure:
    """Knows each secret as it is, and as the password of HTTP's basic authentication."""

    def __init__(self) -> None:
        self.planted: dict[str, tuple[bytes, ...]] = {}
        self.processes: set[Seen] = set()

    def plant(self, name: str, value: str) -> None:
        users = ("x-access-token", "trueup", "Ada", "Grace")
        encoded = (base64.b64encode(f"{user}:{value}".encode()) for user in users)
        self.planted[name] = (value.encode(), *encoded)

    def found(self, content: bytes | str) -> set[str]:
        """The names of the secrets that are in it."""
        data = content.encode() if isinstance(content, str) else content
        return {name for name, forms in self.planted.items() if any(form in data for form in forms)}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at every process of this machine for as long as this lasts, as often as it is worth."""
        over = Event()
        watcher = Thread(target=self._watch, args=(over,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def _watch(self, over: Event) -> None:
        while not over.wait(PERIOD):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):  # it has ended
                    command = (process / "cmdline").read_bytes()
                    program = _program(command.split(b"\0"))
                    for where, content in (
                        ("command line", command),
                        ("environment", (process / "environ").read_bytes()),
                    ):
                        self.processes |= {Seen(name, where, program) for name in self.found(content)}


def _program(arguments: list[bytes]) -> str:
    """The program's name; of a script, the script's, and of a module, the module's."""
    names = [argument.decode(errors="replace") for argument in arguments if argument]
    if not names:
        return ""
    if Path(names[0]).name.startswith("python") and len(names) > 1:
        names = [name for name in names[1:] if not name.startswith("-")] or names
    return Path(names[0]).name
