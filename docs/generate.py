"""Make the pages and schemas of docs/ that follow from the code: `make generate`, and to compare `make check`.

    python docs/generate.py [--check]

Made whole: documents.md and schemas/*.json (from the pydantic models), commands.md (from the commands' help),
holds.md (from the planner's table). Made between two markers: the tables of gates.md.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from typer.main import get_command

from reconciler.cli.main import app
from reconciler.core.base import format_duration
from reconciler.core.documents import KINDS, GatePolicy
from reconciler.core.evidence import CATALOGUE
from reconciler.planning.holds import HOLDS
from reconciler.report.policy import asks, whom, without_champion
from reconciler.report.schema import schema_text

DOCS = Path(__file__).parent
ROOT = DOCS.parent


def pages() -> dict[Path, str]:
    """Every generated file with what it should hold."""
    made = {
        DOCS / "holds.md": holds_page(),
        DOCS / "documents.md": documents_page(),
        DOCS / "commands.md": commands_page(),
        DOCS / "gates.md": between(
            DOCS / "gates.md", {"shipped": shipped_gates(), "measurements": measurements()}
        ),
    }
    return made | {DOCS / "schemas" / f"{kind}.json": schema_text(kind) for kind in KINDS}


# --- documents.md -----------------------------------------------------------------------------------------

DOCUMENTS_HEAD = """\
# The documents

Made from the code by `make generate`; edit the docstrings and descriptions in `reconciler/core`.

YAML 1.2. Every document begins with `apiVersion: trueup.dev/v1` and its `kind`. Its name is its path and is not
written again inside. Unknown fields are refused, and so is a quoted number where a number belongs.
`reconcile validate` says everything that is wrong at once, as `file:line: what. hint: what to do`. Editors that
read JSON Schema find one for each kind in [schemas](schemas).

A field marked *later* is part of the format, but this version does not act on it and so refuses it.

| kind | file | what it is |
|---|---|---|
"""
PATTERNS = {
    r"^[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?$": "name",
    r"^(\d{1,9})(s|m|h|d)$": "duration",
    r"^sha256:[0-9a-f]{64}$": "digest",
    r"^[1-9][0-9]{0,8}$": "version",
}
"""Patterns that have a word of their own; what the word means is at the end of the page."""

DOCUMENTS_FOOT = """\
## Words

| word | form |
|---|---|
| name | a DNS-1123 label of at most 30 characters: `digits`, `fraud-scores` |
| duration | a whole number and one unit of `s`, `m`, `h`, `d`: `90s`, `10m`, `24h` |
| digest | `sha256:` and 64 hex digits |
| version | a version number of the registry, as text: `"3"` |
| instant | date and time in UTC: `2026-03-01T12:00:00Z` |
"""


def documents_page() -> str:
    rows, sections = [], []
    for name, kind in KINDS.items():
        about = prose(kind.type)
        place = re.sub(r"staging", "ENV", re.sub(r"digits|production(?=\.yaml)", "NAME", kind.example))
        rows.append(f"| [{name}](#{name.lower()}) | `{place}` | {about.partition('.')[0]}. |")
        sections.append(f"## {name}\n\n`{place}`: {about}\n\n{table(kind.type, name)}")
        sections += [
            f"### {name}: {part.__name__}\n\n{about}{table(part, name)}"
            for part in parts(kind.type)
            for about in [f"{prose(part)}\n\n" if part.__doc__ else ""]
        ]
    return DOCUMENTS_HEAD + "\n".join(rows) + "\n\n" + "\n".join(sections) + "\n" + DOCUMENTS_FOOT


def prose(type_: type[BaseModel]) -> str:
    """A docstring as Markdown: one line a paragraph, single back quotes."""
    paragraphs = (type_.__doc__ or "").replace("``", "`").strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def parts(type_: type[BaseModel]) -> list[type[BaseModel]]:
    """The models that a document is made of, in the order in which its fields first name them."""
    found: dict[str, type[BaseModel]] = {}

    def visit(annotation: Any) -> None:
        is_part = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        if is_part and annotation.__name__ not in found:
            found[annotation.__name__] = annotation
            walk(annotation)
        for argument in getattr(annotation, "__args__", ()):
            visit(argument)

    def walk(model: type[BaseModel]) -> None:
        for field in model.model_fields.values():
            visit(field.annotation)

    walk(type_)
    return list(found.values())


def table(type_: type[BaseModel], kind: str) -> str:
    schema = type_.model_json_schema(by_alias=True)
    rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for field in type_.model_fields.values():
        name = field.alias or ""
        if name in ("apiVersion", "kind"):
            continue
        property_ = schema["properties"][name]
        later = property_ == {"default": None, "title": property_.get("title"), "type": "null"}
        words = "*later*" if later else words_for(property_, kind)
        default = "required" if field.is_required() else "" if later else default_for(field)
        rows.append(f"| `{name}` | {words} | {default} | {cell(field.description or '')} |")
    return "\n".join(rows) + "\n"


def words_for(schema: dict[str, Any], kind: str) -> str:
    """A JSON Schema type in words."""
    match schema:
        case {"$ref": ref}:
            name = ref.rpartition("/")[2]
            return f"[{name}](#{kind.lower()}-{name.lower()})"
        case {"anyOf": choices} | {"oneOf": choices}:
            return " or ".join(words_for(c, kind) for c in choices if c != {"type": "null"})
        case {"const": value}:
            return f"`{value}`"
        case {"enum": values}:
            return ", ".join(f"`{value}`" for value in values)
        case {"type": "array", "items": items}:
            return f"list of {words_for(items, kind)}"
        case {"type": "object", "additionalProperties": values}:
            keys = words_for(schema.get("propertyNames", {"type": "string"}), kind)
            return f"map of {keys} to {words_for(values, kind)}"
        case {"type": "object", "patternProperties": patterns}:
            ((pattern, values),) = patterns.items()
            return f"map of {PATTERNS.get(pattern, 'text')} to {words_for(values, kind)}"
        case {"type": "string", "format": "date-time"}:
            return "instant"
        case {"type": "string", "pattern": pattern}:
            return PATTERNS.get(pattern, "text")
        case {"type": "string"}:
            return "text"
        case {"type": "boolean"}:
            return "true or false"
        case {"type": ("integer" | "number") as number}:
            word = "whole number" if number == "integer" else "number"
            low, high = schema.get("minimum"), schema.get("maximum", schema.get("exclusiveMaximum"))
            limits = (
                f" from {low} to {high}"
                if high is not None and low is not None
                else f" from {low}"
                if low is not None
                else ""
            )
            return word + limits
        case _:
            raise ValueError(f"docs/generate.py has no words for {schema}")


def default_for(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, timedelta):
        return f"`{format_duration(value)}`"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value if not isinstance(item, BaseModel))
    if isinstance(value, (str, int, float)):
        return f"`{value}`" if value != "" else ""
    return ""


def cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


# --- commands.md ------------------------------------------------------------------------------------------

WIDTH = 100
COMMANDS_HEAD = """\
# The commands

Made from the commands' help by `make generate`.

Data goes to standard output, logs and progress to standard error. Tables and colour are for terminals; a pipe
gets plain text, and `NO_COLOR` is honoured.
"""


def commands_page() -> str:
    return COMMANDS_HEAD + "".join(command_sections(get_command(app), "reconcile"))


def command_sections(command: Any, name: str, parent: Any = None) -> Iterator[str]:
    """One section a command with its help, subcommands after it, hidden ones left out."""
    settings = {"info_name": name, "parent": parent, "terminal_width": WIDTH, **command.context_settings}
    context = command.context_class(command, **settings)
    yield f"\n## {context.command_path}\n\n```\n{command.get_help(context)}\n```\n"
    for sub, found in getattr(command, "commands", {}).items():
        if not found.hidden:
            yield from command_sections(found, sub, context)


# --- holds.md ---------------------------------------------------------------------------------------------

HOLDS_HEAD = """\
# Holds

Made from `reconciler/planning/holds.py` by `make generate`.

A hold is something that is wanted and does not happen now. It is not a failure and does not change the exit
code. Its sentence in the plan names the next event, or the command that would change it.
`reconcile explain MODEL ENV` says more.

| code | what it means | waits for |
|---|---|---|
"""


def holds_page() -> str:
    return HOLDS_HEAD + "".join(
        f"| `{code}` | {cell(meaning.what)} | {'a person' if meaning.person else 'time or a system'} |\n"
        for code, meaning in HOLDS.items()
    )


# --- gates.md ---------------------------------------------------------------------------------------------


def between(page: Path, tables: dict[str, str]) -> str:
    """``page`` with the text between ``<!-- made: NAME -->`` and ``<!-- end -->`` replaced."""
    text = page.read_text()
    for name, made in tables.items():
        found = re.search(rf"<!-- made: {name} -->\n(.*?)<!-- end -->", text, re.DOTALL)
        if found is None:
            raise SystemExit(f"{page}: has no place for the made table {name!r}")
        text = text[: found.start(1)] + made + text[found.end(1) :]
    return text


def shipped_gates() -> str:
    rows = ["| policy | gate | for | metric | asks | with no champion | if it fails | if it is missing |"]
    rows.append("|---|---|---|---|---|---|---|---|")
    for path in sorted((ROOT / "policies").glob("*.yaml")):
        policy = GatePolicy.model_validate(YAML(typ="safe", pure=True).load(path), strict=False)
        extends = f" (extends {policy.extends})" if policy.extends else ""
        for gate in policy.gates:
            rows.append(
                f"| {path.stem}{extends} | {gate.name} | {whom(gate)} "
                f"| `{gate.metric}` | {cell(asks(gate))} | {without_champion(gate)} "
                f"| {gate.on_fail} | {gate.on_missing} |"
            )
    return "\n".join(rows) + "\n"


def measurements() -> str:
    rows = ["| measurement | workflow | recipe | inputs of its key |", "|---|---|---|---|"]
    rows += [
        f"| {name} | `{m.template}` | {m.recipe} | {', '.join(m.inputs)} |" for name, m in CATALOGUE.items()
    ]
    return "\n".join(rows) + "\n"


# --- all of them ------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    stale = {path: text for path, text in pages().items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        name = path.relative_to(ROOT).as_posix()
        if "--check" in arguments:
            print(f"{name}: is not what the code says. hint: make generate", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"wrote {name}")
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
