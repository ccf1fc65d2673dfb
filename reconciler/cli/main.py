"""The entry point of `reconcile`: which commands there are, and how each of them may end.

Each command is a file beside this one that imports what it needs when it runs, so that ``--help`` stays quick.
Exit codes: 0 done, 1 an error, 2 changes (``--detailed-exitcode``) or what cannot be told (``verify``), 130
interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import console
from reconciler.cli.admit import admit
from reconciler.cli.adopt import adopt
from reconciler.cli.cancel import cancel
from reconciler.cli.comment import comment
from reconciler.cli.doctor import doctor
from reconciler.cli.explain import explain
from reconciler.cli.history import history
from reconciler.cli.hold import hold, unhold
from reconciler.cli.local import local
from reconciler.cli.logs import logs
from reconciler.cli.new_environment import new_environment
from reconciler.cli.new_model import new_model
from reconciler.cli.policy import policy
from reconciler.cli.pr import pr
from reconciler.cli.promote import promote
from reconciler.cli.prune import prune
from reconciler.cli.reconcile import WATCH_INTERVAL, reconcile
from reconciler.cli.render import render
from reconciler.cli.reproduce import reproduce
from reconciler.cli.retrain import retrain
from reconciler.cli.retry import retry
from reconciler.cli.rollback import rollback
from reconciler.cli.schema import schema
from reconciler.cli.status import LOOK_INTERVAL, status
from reconciler.cli.validate import validate
from reconciler.cli.verify import verify
from reconciler.cli.version import version
from reconciler.cli.waive import waive
from reconciler.cli.web import web

if TYPE_CHECKING:
    from reconciler.core.errors import TrueupError

app = typer.Typer(
    name="reconcile",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback(invoke_without_command=True)(reconcile)


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="A folder that is empty or not there yet.")],
    example: Annotated[bool, typer.Option("--example", help="With an example model and its data.")] = False,
    model: Annotated[
        str, typer.Option(help="Which example: `digits`, or `flight-delay` on all flights of a year.")
    ] = "digits",
) -> None:
    """Write a new GitOps repository and its bare origin."""
    from reconciler.cli.init import init as write_repository

    write_repository(directory, model if example else "", say=lambda text: console.write(f"{text}\n"))


app.command("new-model")(new_model)
app.command("new-environment")(new_environment)
app.command()(doctor)
for command in (
    status,
    explain,
    history,
    verify,
    validate,
    render,
    admit,
    comment,
    rollback,
    prune,
    logs,
    web,
    schema,
    version,
):
    app.command()(command)
for order in (retrain, reproduce, retry, cancel):
    app.command()(order)
for exception in (hold, unhold, waive):
    app.command()(exception)
for pin in (promote, adopt):
    app.command()(pin)
app.add_typer(pr)
app.add_typer(policy)
app.add_typer(local)


def main() -> None:
    """The console script."""
    if os.environ.get("_RECONCILE_COMPLETE"):  # set by the shell's completion, while somebody types
        from reconciler.cli.complete import answer

        sys.exit(answer(app))
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Do what the arguments say and return the exit code. What is wrong goes to standard error in one form."""
    try:
        try:
            code = app(args=spelled_out(arguments), prog_name="reconcile", standalone_mode=False)
            console.flush()
        except BrokenPipeError:
            console.abandon_stdout()
            return console.QUIET_PIPE
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if os.environ.get("TRUEUP_DEBUG"):
            raise
        console.fail(_explained(error))
    return 1


def spelled_out(arguments: Sequence[str]) -> list[str]:
    """``--watch`` may stand without its seconds; the parser wants them said."""
    spelled = list(arguments)
    for place, argument in enumerate(spelled):
        if argument == "--watch" and not "".join(spelled[place + 1 : place + 2])[:1].isdigit():
            spelled[place] = f"--watch={LOOK_INTERVAL if 'status' in spelled[:place] else WATCH_INTERVAL}"
        if argument == "--":
            break
    return spelled


def _explained(error: Exception) -> TrueupError:
    """Ours as it is; a usage error of the parser; or something that should not have happened."""
    from reconciler.core.errors import Terminal, TrueupError

    if isinstance(error, TrueupError):
        return error
    if isinstance(error, OSError):
        from reconciler.bootstrap.process import told

        return told(error)
    say = getattr(error, "format_message", None)
    if callable(say):
        context = getattr(error, "ctx", None)
        path = getattr(context, "command_path", "reconcile")
        return Terminal(str(say()).replace("Value error, ", ""), hint=f"{path} --help")
    return Terminal(
        f"{type(error).__name__}: {error}",
        where="internal error",
        hint="set TRUEUP_DEBUG=1 to see where, and please report it",
    )
