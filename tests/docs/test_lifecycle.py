"""docs/lifecycle.md's table of questions names every hold once, beside the file that makes it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from reconciler.planning.holds import HOLDS

ROOT = Path(__file__).parents[2]
PLANNING = ROOT / "reconciler" / "planning"
SECTION = "## Why was a version not promoted?"


def table() -> list[tuple[str, str]]:
    """(hold, file) in the table's order."""
    page = (ROOT / "docs" / "lifecycle.md").read_text()
    section = page.partition(SECTION)[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    found = []
    for _, asked_in, holds, _ in rows[1:]:
        (file,) = re.findall(r"`(?:planning/)?(\w+\.py)`", asked_in)
        found += [(hold, file) for hold in re.findall(r"`([a-z-]+)`", holds)]
    return found


def made_in(file: str) -> set[str]:
    """The holds that a module of the planner makes: by name, by a variable, or for a gap."""
    tree = ast.parse((PLANNING / file).read_text())
    made: set[str] = set()
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        given = {
            target.id: node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            name = call.func.id if isinstance(call.func, ast.Name) else ""
            if name == "unanswered":
                made.add("gap")
            elif name == "hold":
                code: ast.AST = call.args[0]
                if isinstance(code, ast.Name):
                    code = given.get(code.id, code)
                made |= {
                    node.value
                    for node in ast.walk(code)
                    if isinstance(node, ast.Constant) and isinstance(node.value, str)
                }
    return made


def test_every_hold_is_in_the_table_once() -> None:
    assert sorted(hold for hold, _ in table()) == sorted(HOLDS)


@pytest.mark.parametrize(("hold", "file"), table())
def test_the_file_beside_a_hold_makes_it(hold: str, file: str) -> None:
    assert hold in made_in(file)


def test_what_is_made_elsewhere_too_is_said_below_the_table() -> None:
    below = {
        ("awaiting-sync", "aliases.py"),
        ("drifted", "aliases.py"),
        ("measuring", "limits.py"),
        ("measurement-failed", "reproducing.py"),
        ("pinned-version-missing", "training.py"),
    }
    said = set(table()) | below
    anywhere = {"gap", "invalid-document"}
    files = {path.name for path in PLANNING.glob("*.py")}
    made = {(hold, file) for file in files for hold in made_in(file) - anywhere}
    assert made == {(hold, file) for hold, file in said if hold not in anywhere}
