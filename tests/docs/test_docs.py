"""What the documentation says is so: pages made from the code, links and commands."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from typer.main import get_command

from reconciler.cli.main import app, spelled_out

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMAND = get_command(app)
UsageError = typer.BadParameter.__mro__[1]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def split(page: Path) -> tuple[list[str], list[str]]:
    """The lines of prose, and the lines inside fenced blocks."""
    prose: list[str] = []
    fenced: list[str] = []
    inside = False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            inside = not inside
        else:
            (fenced if inside else prose).append(line)
    return prose, fenced


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_made_pages_are_what_the_code_says() -> None:
    stale = [name(path) for path, text in generator().pages().items() if path.read_text() != text]
    assert stale == [], "run `make generate`"


# --- commands ---------------------------------------------------------------------------------------------


def commands(command: Any, spelled: str) -> Iterator[str]:
    yield spelled
    for sub, found in getattr(command, "commands", {}).items():
        if not found.hidden:
            yield from commands(found, f"{spelled} {sub}")


@pytest.mark.parametrize("spelled", sorted(commands(COMMAND, "reconcile")))
def test_every_command_is_documented(spelled: str) -> None:
    assert f"\n## {spelled}\n" in (ROOT / "docs/commands.md").read_text()


def shown_commands(page: Path) -> Iterator[str]:
    """Command lines of `reconcile` in fenced blocks and in inline code, without comments."""
    if page.name == "commands.md":
        return
    prose, fenced = split(page)
    for line in fenced:
        found = re.match(r"(?:\$ )?(reconcile(?: .*)?)$", line)
        if found:
            yield found[1]
    yield from re.findall(r"`(reconcile [^`]+)`", " ".join(prose))


SHOWN = [(name(page), line) for page in PAGES for line in dict.fromkeys(shown_commands(page))]


@pytest.mark.parametrize(("page", "line"), SHOWN, ids=[f"{page}: {line}" for page, line in SHOWN])
def test_a_shown_command_parses(page: str, line: str) -> None:
    parse(COMMAND, spelled_out(shlex.split(line, comments=True)[1:]))


def parse(command: Any, arguments: list[str], parent: Any = None) -> None:
    """As the command line would, without running anything. Raises UsageError."""
    context = command.make_context(command.name, arguments, parent=parent)
    rest = [*context._protected_args, *context.args]
    if hasattr(command, "commands") and rest:
        _, sub, rest = command.resolve_command(context, rest)
        parse(sub, rest, context)


def test_a_wrong_command_does_not_parse() -> None:
    with pytest.raises(UsageError):
        parse(COMMAND, ["no-such-command"])
    with pytest.raises(UsageError):
        parse(COMMAND, ["status", "--no-such-option"])


# --- links ------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """As GitHub makes them: lower case, no punctuation, hyphens for spaces."""
    headings = [line.lstrip("# ") for line in split(page)[0] if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        prose = re.sub(r"`[^`]*`", "", "\n".join(split(page)[0]))
        for link in re.findall(r"\]\(([^)\s]+)\)", prose):
            if not re.match(r"[a-z]+:", link):
                yield page, link


LINKS = list(links())


@pytest.mark.parametrize(("page", "link"), LINKS, ids=[f"{name(page)}: {link}" for page, link in LINKS])
def test_a_link_leads_somewhere(page: Path, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.exists()
    if anchor:
        assert anchor in anchors(target)


# --- what must not be written -----------------------------------------------------------------------------

REGISTRIES = r"pypi\.org|pythonhosted|npmjs\.|proxy\.golang|docker\.io|ghcr\.io|quay\.io|anaconda\."
MACHINES = r"(?<![\w.}])/(root|home/\w+|work|Users/\w+)/[\w.]"


def tracked() -> Iterator[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for entry in filter(None, done.stdout.split("\0")):
        path = ROOT / entry
        if path.is_file() and path != Path(__file__):
            yield path


@pytest.mark.parametrize(("what", "pattern"), [("registries", REGISTRIES), ("machines", MACHINES)])
def test_no_file_names(what: str, pattern: str) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a Git checkout")
    found = [
        f"{name(path)}:{number}: {line.strip()[:100]}"
        for path in tracked()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert found == []
