"""Standard output for data, standard error for everything else. Every command writes through this file.

At a terminal: colour, and lines folded to its width. In a pipe: plain text, one line an item. ``NO_COLOR`` and
``FORCE_COLOR`` are honoured (https://no-color.org), and so is ``COLUMNS``. Where the locale is C or POSIX,
or the stream's encoding lacks a mark, drawings are made of ASCII. A stream that is closed (``>&-``) is
``None``: no terminal, and nothing is written.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TextIO, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from reconciler.core.errors import TrueupError
    from reconciler.report.layout import Block, Style

Item = TypeVar("Item")

STYLES: dict[Style, str] = {
    "": "",
    "strong": "bold",
    "dim": "dim",
    "good": "green",
    "warn": "yellow",
    "bad": "red",
    "note": "cyan",
}
PATIENCE = 2.0
"""Seconds after which a person at a terminal is told what is being waited for."""

TABLE_WIDTH = 100
"""Columns below which a table of gates would fold its cells so often that nobody can read along a row."""

QUIET_PIPE = 141
"""128 + SIGPIPE: the exit code of a program whose reader went away."""


def show(blocks: Iterable[Block]) -> None:
    """Blocks on standard output, for whoever reads it."""
    _show(blocks, sys.stdout)


def show_markdown(text: str) -> None:
    """Markdown on standard output: typeset at a terminal, as it is in a pipe."""
    if not at_terminal(sys.stdout):
        write(text.rstrip() + "\n")
        return
    from rich.markdown import Markdown

    from reconciler.report.markdown import without_tables

    console = rich_console(sys.stdout)
    console.print(Markdown(text if console.width >= TABLE_WIDTH else without_tables(text)), soft_wrap=False)


def write(text: str) -> None:
    """Exactly this text on standard output."""
    try:
        _put(text, sys.stdout)
    except BrokenPipeError:
        abandon_stdout()
        raise typer.Exit(QUIET_PIPE) from None


def note(text: str) -> None:
    """A line for people on standard error."""
    _put(f"{text}\n", sys.stderr)


def fail(error: TrueupError) -> None:
    """``error: WHERE: WHAT`` and ``hint: ...`` on standard error."""
    _show(failure(error), sys.stderr)


def failure(error: TrueupError) -> list[Block]:
    """An error as :func:`fail` says it."""
    from reconciler.report.inert import visible
    from reconciler.report.layout import Span, line

    where = f"{error.where}: " if error.where else ""
    said = visible(f"{where}{error.what.rstrip('.')}")
    blocks: list[Block] = [line(Span("error", "bad"), f": {said}", hang=7)]
    if error.hint:
        blocks.append(line(Span("hint", "note"), f": {visible(error.hint)}", hang=6))
    return blocks


def at_terminal(stream: TextIO | None) -> bool:
    return stream is not None and (bool(os.environ.get("FORCE_COLOR")) or _draws(stream))


def is_terminal() -> bool:
    """Whether standard output is a terminal whose lines can be drawn again. Colour in a pipe makes it none."""
    return _draws(sys.stdout)


def flush() -> None:
    """What standard output still keeps goes to its reader."""
    _put("", sys.stdout)


def _draws(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def _put(text: str, stream: TextIO | None) -> None:
    if stream is not None:
        stream.write(text)
        stream.flush()


@contextmanager
def redrawn() -> Iterator[Callable[[Iterable[Block]], None]]:
    """A function that shows blocks in the place of those before; in a pipe, after them."""
    if not is_terminal():
        yield show
        return
    from rich.live import Live

    console = rich_console(sys.stdout)
    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        width = console.width

        def draw(blocks: Iterable[Block]) -> None:
            nonlocal width
            if console.width != width:  # the terminal folded what was there: it is not where it was drawn
                console.file.write("\x1b[2J\x1b[H")
                width = console.width
            live.update(_text(blocks, width, sys.stdout), refresh=True)

        yield draw


def rich_console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)


def abandon_stdout() -> None:
    """After a broken pipe: let Python's last flush go nowhere instead of failing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show(blocks: Iterable[Block], stream: TextIO | None) -> None:
    from reconciler.report.layout import plain

    if stream is None:
        return
    if not at_terminal(stream):
        text = _written(plain(blocks), stream)
        if stream is sys.stdout:
            write(text)
        else:
            stream.write(text)
        return
    console = rich_console(stream)
    console.print(_text(blocks, console.width, stream), soft_wrap=True)


def _text(blocks: Iterable[Block], width: int, stream: TextIO) -> Text:
    from rich.text import Text

    from reconciler.report.layout import lay_out

    lines = (
        Text.assemble(*((_written(span.text, stream), STYLES[span.style]) for span in spans))
        for spans in lay_out(blocks, width)
    )
    return Text("\n").join(lines)


def _written(text: str, stream: TextIO) -> str:
    """The text as this stream can show it: what it cannot is drawn in ASCII, or escaped."""
    if text.isascii():
        return text
    from reconciler.report.drawing import ASCII

    encoding = stream.encoding or "ascii"
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG")
    drawn = text.translate(ASCII) if locale in ("C", "POSIX") or _lacks(encoding, text) else text
    return drawn.encode(encoding, "backslashreplace").decode(encoding)


def _lacks(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return True
    return False


def counted(what: str, items: Sequence[Item], patience: float = PATIENCE) -> Iterator[Item]:
    """The items, with a bar on standard error, at a terminal, once it has taken ``patience`` seconds.

    Whoever goes through them writes nothing meanwhile.
    """
    if not _draws(sys.stderr):
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}", style="dim", markup=False), BarColumn(), MofNCompleteColumn())
    began = time.monotonic()
    with ExitStack() as after:
        bar: Progress | None = None
        for done, item in enumerate(items):
            if bar is None and time.monotonic() - began >= patience:
                bar = after.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
                bar.add_task(what, total=len(items))
            if bar is not None:
                bar.update(bar.task_ids[0], completed=done)
            yield item


@contextmanager
def working(what: str, patience: float = PATIENCE) -> Iterator[None]:
    """Say ``what`` takes so long, on standard error, at a terminal, once it has taken ``patience`` seconds."""
    if not _draws(sys.stderr):
        yield
        return
    done = threading.Event()

    def say() -> None:
        if done.wait(patience):
            return
        from rich.console import Console

        with Console(stderr=True).status(f"[dim]{what}[/dim]", spinner="line"):
            done.wait()

    speaker = threading.Thread(target=say, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        done.set()
        speaker.join()
