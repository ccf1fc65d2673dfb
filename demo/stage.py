"""The stage for the story: it runs commands, shows them with their real output, and remembers both.

Used by demo/story.py; what it remembers becomes docs/walkthrough.md.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import IO, Literal

SILENCE = 2.0
"""Seconds of silence after which a sign of life is given."""
PATIENCE = 3
"""Ticks that may fail while waiting: the next tick tries again."""
ENDED_BADLY = re.compile(r"! hold +(training|measurement)-failed")
"""What no story waits for the end of."""
END_OF_TICK = re.compile(r"(Applied:|No changes\.)")
"""How the last line begins of what `reconcile --watch` prints for one tick."""

Kind = Literal["chapter", "say", "console"]


class StoryError(Exception):
    """The story cannot go on; the message says which command did what."""


class Story:
    """Says, runs and remembers. ``folder`` is where the next command runs."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = env
        self.told: list[tuple[Kind, str]] = []

    def chapter(self, title: str) -> None:
        self._tell("chapter", f"\n## {title}\n\n")

    def say(self, text: str) -> None:
        gap = "\n" if self.told and self.told[-1][0] == "console" else ""
        self._tell("say", gap + textwrap.fill(" ".join(text.split()), 110) + "\n\n")

    def enter(self, name: str) -> None:
        self._tell("console", f"$ cd {name}\n")
        self.folder /= name

    def show(self, command: str) -> None:
        """A command that is shown and not run: it was, before the story began."""
        self._tell("console", f"$ {command}\n")

    def run(self, command: str, *, expect: Sequence[int] = (0,)) -> str:
        """Show a command, run it without a shell, show what it prints, return that. Raises StoryError."""
        self._tell("console", f"$ {command}\n")
        process = self._start(command)
        said = ""
        for line in self._lines(process, command):
            said += line
            self._tell("console", line)
        if process.wait() not in expect:
            raise StoryError(f"'{command}' ended with exit code {process.returncode}")
        return said

    def ask(self, command: str) -> str:
        """What a command prints that is asked behind the scenes, such as for the address of a server."""
        done = subprocess.run(
            shlex.split(command), cwd=self.folder, env=self.env, capture_output=True, text=True, check=False
        )
        if done.returncode not in (0, 2):
            raise StoryError(f"'{command}' ended with exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace ``old``, which must be there, by a visible sed."""
        if old not in (self.folder / path).read_text():
            raise StoryError(f"{path} does not say {old!r}")
        self.run(f"sed -i 's|{old}|{new}|' {path}")

    def commit(self, message: str, *, branch: str = "main") -> None:
        """Commit what was edited, by a person, and push it."""
        self.run(f"git commit --quiet --all --message {shlex.quote(message)}")
        self.run(f"git push --quiet origin {branch}")

    def revert(self) -> None:
        """Take the last change on main back."""
        self.run("git revert --no-edit HEAD")
        self.run("git push --quiet origin main")

    def settle_in(self) -> None:
        """What a stage needs before the story begins."""

    def picture(self, name: str, page: str, height: int) -> None:
        """Where there are pages to look at: so much of one of them, for docs/."""

    def linger(self) -> None:
        """Where there is something to look at that ends with the story: not yet."""

    def until(self, pattern: str, *, why: str, within: float = 900) -> str:
        """Let `reconcile --watch` tick until a tick prints ``pattern``; ticks that only wait are not shown.

        Returns what was shown. Raises StoryError where nothing matched within so many seconds.
        """
        command = "reconcile --watch 1"
        self._tell("console", f"$ {command}    # until {why}\n")
        process = self._start(command)
        shown = tick = last = ""
        failures = 0
        for line in self._lines(process, f"until {why}", time.monotonic() + within):
            tick += line
            if not END_OF_TICK.match(line):
                continue
            found = re.search(pattern, tick) is not None
            if found or line.startswith("Applied:"):
                shown += tick
                self._tell("console", tick)
            if found:
                return shown
            if ENDED_BADLY.search(tick):
                raise StoryError(f"`{command}` says:\n{tick}")
            failures += " failed" in line
            if failures > PATIENCE:
                raise StoryError(f"`{command}` fails again and again")
            last, tick = tick, ""
        raise StoryError(
            f"`{command}` did not say {pattern!r} within {within:.0f} s. It said last:\n{last}{tick}"
        )

    def markdown(self, title: str, about: str) -> str:
        """Everything told so far, as a page."""
        page = f"# {title}\n\n{textwrap.fill(about, 110)}\n"
        for kind, group in groupby(self.told, key=lambda item: item[0]):
            text = "".join(text for _, text in group)
            page += f"\n```console\n{text}```\n" if kind == "console" else f"{text.rstrip()}\n"
        return page

    def _tell(self, kind: Kind, text: str) -> None:
        self.told.append((kind, text))
        sys.stdout.write(text)
        sys.stdout.flush()

    def _start(self, command: str) -> subprocess.Popen[str]:
        """In a process group of its own, so that Ctrl-C reaches the story first and it can clear up."""
        return subprocess.Popen(
            shlex.split(command, comments=True),
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _lines(self, process: subprocess.Popen[str], what: str, end: float = float("inf")) -> Iterator[str]:
        """Its lines as they come, until it or the time ends. Ends it if it has not ended by itself."""
        assert process.stdout is not None
        lines: queue.Queue[str | None] = queue.Queue()

        def read(out: IO[str] = process.stdout) -> None:
            for line in out:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        heard = time.monotonic()
        try:
            while (now := time.monotonic()) < end:
                try:
                    line = lines.get(timeout=0.5)
                except queue.Empty:
                    if now - heard > SILENCE:
                        _alive(f"  ... {what}: {now - heard:.0f} s")
                    continue
                _alive("")
                if line is None:
                    process.wait()
                    return
                heard = now
                yield line
        finally:
            _alive("")
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Interrupt it as Ctrl-C would, if it still runs, and wait."""
    if process.poll() is not None:
        return
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=15)
            return


def _alive(text: str) -> None:
    """A line at a terminal that the next one overwrites; nothing in a pipe."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()
