"""`reconcile schema`: JSON Schema of the documents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli import console


def schema(
    kind: Annotated[
        str, typer.Argument(metavar="[KIND]", show_default=False, help="As in Model; all without it.")
    ] = "",
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIRECTORY", help="Write KIND.json files there instead.")
    ] = None,
) -> None:
    """Print the JSON Schema of the documents, for editors.

    An editor with a YAML language server reads a first line such as
    `# yaml-language-server: $schema=../../docs/schemas/Model.json`.
    """
    from reconciler.core.documents import KINDS
    from reconciler.core.errors import Terminal
    from reconciler.report import json
    from reconciler.report.schema import schema as schema_of
    from reconciler.report.schema import schema_text

    if kind and kind not in KINDS:
        raise Terminal(f"{kind!r} is not a kind of document", hint=f"the kinds are {', '.join(KINDS)}")
    kinds = [kind] if kind else list(KINDS)
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        for name in kinds:
            (directory / f"{name}.json").write_text(schema_text(name))
            console.note(f"wrote {directory / f'{name}.json'}")
    elif kind:
        console.write(schema_text(kind))
    else:
        console.write(json.dump({name: schema_of(name) for name in kinds}))
