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
    """A secret by its name, and where it was seen: ``$VARIABLE``, or ``the command line of PROGRAM``."""

    secret: str
    where: str


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
        """Look at every process of this machine for as long as this lasts, as often as :data:`PERIOD` says."""
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
                    self._see(process)

    def _see(self, process: Path) -> None:
        command, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        for name in self.found(command):
            self.processes.add(Seen(name, f"the command line of {_program(command)}"))
        for variable in environment.split(b"\0") if self.found(environment) else ():
            place = f"${variable.partition(b'=')[0].decode(errors='replace')}"
            self.processes |= {Seen(name, place) for name in self.found(variable)}


def _program(command: bytes) -> str:
    """The program's name; of a script, the script's, and of a module, the module's."""
    names = [argument.decode(errors="replace") for argument in command.split(b"\0") if argument]
    if not names:
        return ""
    if Path(names[0]).name.startswith("python") and len(names) > 1:
        names = [name for name in names[1:] if not name.startswith("-")] or names
    return Path(names[0]).name
