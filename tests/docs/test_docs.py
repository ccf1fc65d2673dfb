"""What the documentation says is so: pages made from the code, links and commands."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML
from typer.main import get_command

from reconciler.adapters.folder_source import FolderSource
from reconciler.cli.main import app, spelled_out
from reconciler.core.documents import KINDS
from reconciler.core.strict_yaml import read
from reconciler.core.validation import validate
from reconciler.load import load

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
def test_a_shown_command_parses(page: str, line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # an option that acts as soon as it is parsed writes there
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


# --- YAML -------------------------------------------------------------------------------------------------

INSTALL = ROOT / "docs/install.md"


def blocks(page: Path) -> list[str]:
    """The fenced YAML that is whole documents, not a part of one."""
    found = re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [block for block in found if block.startswith("apiVersion:")]


def kind_in(block: str) -> str:
    return str(YAML(typ="safe", pure=True).load(block)["kind"])


BLOCKS = [(name(page), block) for page in PAGES for block in blocks(page)]


@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=[f"{page}: {kind_in(block)}" for page, block in BLOCKS])
def test_a_shown_document_is_valid(page: str, block: str) -> None:
    """One of ours is what `reconcile validate` takes; any other is in deploy/, whose tests read it."""
    document = read(block.encode(), page)
    if document.value["apiVersion"] == "trueup.dev/v1":
        kind = KINDS[document.value["kind"]].type
        assert isinstance(validate(kind, document), kind)
    else:
        assert document.value in list(deployed())


def deployed() -> Iterator[Any]:
    for path in (ROOT / "deploy").rglob("*.yaml"):
        yield from YAML(typ="safe", pure=True).load_all(path)


def test_the_documents_to_install_are_a_repository(tmp_path: Path) -> None:
    """Beside the shipped policies, templates, code and data, nothing is wrong between them."""
    for part in ("policies", "workflows/rendered", "models/digits"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "*.csv"))
    written: set[Path] = set()
    for block in blocks(INSTALL):
        document = YAML(typ="safe", pure=True).load(block)
        places = {
            "Platform": "environments/platform.yaml",
            "Environment": f"environments/{document.get('alias')}/environment.yaml",
            "Model": "models/digits/model.yaml",
        }
        if document["kind"] in places:
            path = tmp_path / places[document["kind"]]
            path.parent.mkdir(parents=True, exist_ok=True)
            if path not in written:  # a second Platform is that of another section
                path.write_text(block)
            written.add(path)
    state = load(FolderSource(tmp_path), "")
    assert [str(problem) for problem in state.problems] == []
    model = state.models["digits"].model
    served = {name: model.serving_in(name, found.runtime) for name, found in state.environments.items()}
    strategies = {name: how.strategy for name, how in served.items() if how != "none"}
    assert strategies == {"staging": "rolling", "production": "canary"}


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
