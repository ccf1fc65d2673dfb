"""How commands start and end: quick help, one form of error, exit codes, pipes and interruptions."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from reconciler import __version__
from reconciler.cli import console, main
from reconciler.cli.main import run, spelled_out
from reconciler.core.errors import Retryable, Terminal

HEAVY = {
    "dvc",
    "evidently",
    "git",
    "hera",
    "httpx",
    "kubernetes",
    "mlflow",
    "numpy",
    "pandas",
    "sklearn",
    "torch",
}
ROOT = Path(__file__).parents[2]
COMMANDS = [
    "admit",
    "adopt",
    "cancel",
    "comment",
    "doctor",
    "explain",
    "history",
    "hold",
    "init",
    "local",
    "logs",
    "new-environment",
    "new-model",
    "policy",
    "pr",
    "promote",
    "prune",
    "render",
    "reproduce",
    "retrain",
    "retry",
    "rollback",
    "schema",
    "status",
    "unhold",
    "validate",
    "verify",
    "version",
    "waive",
    "web",
]


def imported_by(*arguments: str, at_most: int, cwd: Path | None = None) -> tuple[int, set[str]]:
    """Exit code of a command in a fresh interpreter, and the top level of the modules that it imported.

    Fails on more than ``at_most`` of them: a count says on every machine what a stopwatch says on one.
    """
    script = (
        "import sys; from reconciler.cli.main import run; code = run(sys.argv[1:]); "
        "print('MODULES', code, *sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=cwd, capture_output=True, text=True, check=True
    )
    _, code, *names = done.stderr.rpartition("MODULES")[2].join(["MODULES", ""]).split()
    assert len(names) <= at_most
    return int(code), {name.partition(".")[0] for name in names}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """`reconcile version` raises what the test puts in here."""
    raised: list[BaseException] = []

    def version() -> None:
        raise raised[0]

    app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
    app.command("version")(version)
    app.command("other")(lambda: None)
    monkeypatch.setattr(main, "app", app)
    monkeypatch.delenv("TRUEUP_DEBUG", raising=False)
    return iter([raised])


def test_help_imports_almost_nothing() -> None:
    code, names = imported_by("--help", at_most=220)
    assert code == 0
    assert names & (HEAVY | {"pydantic", "rich", "ruamel"}) == set()


def test_validate_imports_only_what_reads_documents() -> None:
    code, names = imported_by("validate", at_most=450, cwd=ROOT)
    assert code == 0
    assert "ruamel" in names
    assert names & (HEAVY | {"rich"}) == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_imports_nothing_heavy(command: str) -> None:
    code, names = imported_by(command, "--help", at_most=380)
    assert code == 0
    assert names & HEAVY == set()


def test_every_command_has_a_first_line_that_fits_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert sorted(line.split()[0] for line in listed) == COMMANDS
    assert [line for line in listed if line.endswith("...")] == []


@pytest.mark.parametrize("asked", [["version"], ["--version"], ["--dry-run", "--version", "status"]])
def test_version(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(asked) == 0
    assert capsys.readouterr() == (f"trueup {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "error: No such command 'nonsense'\nhint: reconcile --help\n"),
        (["statsu"], "error: No such command 'statsu'. Did you mean 'status'?\nhint: reconcile --help\n"),
        (["status", "--nope"], "error: No such option: --nope\nhint: reconcile status --help\n"),
        (["--watch", "5s"], "error: Invalid value for '--watch': Input should be a valid integer"),
        (["--watch", "0"], "error: Invalid value for '--watch': "),
        (["--watch=-1"], "error: Invalid value for '--watch': "),
        (["status", "--watch", "0"], "error: Invalid value for '--watch': "),
        (["-o", "yaml"], "error: Invalid value for '--output' / '-o': 'yaml' is not one of 'text', 'json', 'm"),
        (["explain"], "error: Missing argument 'MODEL'\nhint: reconcile explain --help\n"),
        (["explain", "digits"], "error: Missing argument 'ENV'\nhint: reconcile explain digits ENV\n"),
        (["explain", "/digits"], "error: Missing argument 'ENV'\nhint: reconcile explain digits ENV\n"),
        (["--dry-run", "version"], "error: reconcile: options of a tick mean nothing to 'version'\n"),
        (["history", "digits"], "error: 'digits' is not ENV/MODEL\nhint: write it as in production/digits\n"),
        (["schema", "Modle"], "error: 'Modle' is not a kind of document\n"),
    ],
)
def test_a_slip_is_told_in_one_form_and_exits_1(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Terminal("is wrong.", where="a.yaml:3", hint="mend it"), "error: a.yaml:3: is wrong\nhint: mend it\n"),
        (Retryable("timed out", where="registry"), "error: registry: timed out\n"),
        (Terminal("two\nlines \x1b[31mred"), "error: two lines [31mred\n"),
        (OSError(28, "No space left on device", "/x"), "error: /x: No space left on device\n"),
        (KeyError("x"), "error: internal error: KeyError: 'x'\nhint: set TRUEUP_DEBUG=1 to see where"),
    ],
)
def test_an_error_is_where_what_and_a_hint(
    error: Exception, said: str, failing: Iterator[list[BaseException]], capsys: pytest.CaptureFixture[str]
) -> None:
    next(failing).append(error)
    assert run(["version"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)


def test_debugging_shows_the_traceback(
    failing: Iterator[list[BaseException]], monkeypatch: pytest.MonkeyPatch
) -> None:
    next(failing).append(Terminal("is wrong"))
    monkeypatch.setenv("TRUEUP_DEBUG", "1")
    with pytest.raises(Terminal):
        run(["version"])


def test_an_interruption_is_quiet(
    failing: Iterator[list[BaseException]], capsys: pytest.CaptureFixture[str]
) -> None:
    next(failing).append(KeyboardInterrupt())
    assert run(["version"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_goes_away_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(_reconcile("schema"), stdout=writing, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (console.QUIET_PIPE, b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("schema",), 0), (("-C", "/nowhere", "status"), 1), (("-C", "/nowhere", "status", "--watch=x"), 1)],
)
def test_a_closed_stream_takes_nothing(closed: str, arguments: tuple[str, ...], code: int) -> None:
    shell = ["sh", "-c", f'"$@" {closed}', "sh", *_reconcile(*arguments)]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "internal error" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("forced", ["", "1"])
def test_a_closed_stream_is_no_terminal(forced: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", forced)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert not console.is_terminal()
    assert not console.at_terminal(sys.stdout)
    console.write("a")
    console.note("a")
    console.fail(Terminal("is wrong"))
    console.show_markdown("# a")
    assert list(console.counted("a", [1], patience=0)) == [1]
    with console.working("a", patience=0), console.redrawn() as draw:
        draw(console.failure(Terminal("is wrong")))


def _reconcile(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from reconciler.cli.main import main; main()", *arguments]


@pytest.mark.parametrize(
    ("typed", "parsed"),
    [
        (["--watch"], ["--watch=30"]),
        (["--watch", "5", "--dry-run"], ["--watch", "5", "--dry-run"]),
        (["--watch", "--dry-run"], ["--watch=30", "--dry-run"]),
        (["--watch=7"], ["--watch=7"]),
        (["--watch", "5s"], ["--watch", "5s"]),
        (["--watch", "status"], ["--watch=30", "status"]),
        (["pr", "open", "--", "--watch"], ["pr", "open", "--", "--watch"]),
        ([], []),
    ],
)
def test_watch_may_leave_out_its_seconds(typed: list[str], parsed: list[str]) -> None:
    assert spelled_out(typed) == parsed


def test_outside_of_a_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-C", str(tmp_path), "validate"]) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: is not inside a Git repository\nhint: cd to")
    assert run(["-C", str(tmp_path / "no"), "validate"]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'no'}: is not a folder\n"


def at_a_terminal(
    *arguments: str, columns: int = 60, env: dict[str, str] | None = None, script: str = ""
) -> str:
    """What a command, or a script, prints on a terminal of that many columns."""
    import pty

    parent, child = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"TERM": "xterm", "COLUMNS": str(columns), **(env or {})}
    command = [sys.executable, "-c", script] if script else _reconcile(*arguments)
    process = subprocess.Popen(command, stdout=child, stderr=child, env=environment)
    os.close(child)
    said = b""
    while True:
        try:
            chunk = os.read(parent, 65536)
        except OSError:  # EIO: the other side is closed
            break
        if not chunk:
            break
        said += chunk
    process.wait()
    os.close(parent)
    return said.decode().replace("\r\n", "\n")


def test_colour_is_for_terminals_and_for_those_who_want_it(tmp_path: Path) -> None:
    coloured = at_a_terminal("-C", str(tmp_path), "status", columns=200)
    assert coloured.startswith("\x1b[31merror\x1b[0m: ")
    assert "\x1b" not in at_a_terminal("-C", str(tmp_path), "status", env={"NO_COLOR": "1"})
    assert "\x1b" not in at_a_terminal("-C", str(tmp_path), "status", env={"TERM": "dumb"})


def test_a_terminal_folds_lines_and_a_pipe_does_not(tmp_path: Path) -> None:
    folded = at_a_terminal("-C", str(tmp_path), "status", columns=50, env={"NO_COLOR": "1"})
    assert "\n      " in folded, "the hint hangs below its first word"
    piped = subprocess.run(
        _reconcile("-C", str(tmp_path), "status"),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "50"},
    )
    assert len(piped.stderr.splitlines()) == 2


DRAWN = (
    "from reconciler.cli import console; from reconciler.report.layout import line; "
    "console.show([line('┣●┫ é')])"
)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"LC_ALL": "C.UTF-8"}, "┣●┫ é\n"),
        ({"LC_ALL": "", "LC_CTYPE": "", "LANG": ""}, "┣●┫ é\n"),
        ({"LC_ALL": "C"}, "[*] é\n"),
        ({"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "latin-1"}, "[*] é\n"),
        ({"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii"}, "[*] \\xe9\n"),
    ],
)
def test_where_a_mark_cannot_be_shown_it_is_ascii(environment: dict[str, str], said: str) -> None:
    encoding = environment.get("PYTHONIOENCODING", "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", DRAWN], capture_output=True, check=True, env={**os.environ, **environment}
    )
    assert done.stdout.decode(encoding) == said
    if encoding == "utf-8":
        assert at_a_terminal(script=DRAWN, env=environment) == said


PROPOSAL = (ROOT / "tests/snapshots/report/pull-request-review.md").read_text()


@pytest.mark.parametrize("columns", [40, 60, 99, 100, 200])
def test_markdown_at_a_terminal_is_never_wider_than_it(columns: int) -> None:
    script = f"from reconciler.cli import console; console.show_markdown({PROPOSAL!r})"
    said = re.sub(r"\x1b\[[0-9;]*m", "", at_a_terminal(columns=columns, script=script))
    assert max(len(line) for line in said.splitlines()) <= columns
    assert "What speaks against it" in said
    assert ("accuracy: asked" in said) is (columns < 100)


def test_nothing_is_said_about_quick_work(capfd: pytest.CaptureFixture[str]) -> None:
    with console.working("nothing much"):
        pass
    assert capfd.readouterr() == ("", "")


def test_work_that_takes_long_is_named_at_a_terminal_only() -> None:
    script = (
        "import time; from reconciler.cli import console\n"
        "with console.working('counting stars', patience=0.01): time.sleep(0.5)"
    )
    assert "counting stars" in at_a_terminal(script=script)
    piped = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (piped.stdout, piped.stderr) == ("", "")


def test_what_is_counted_has_a_bar_at_a_terminal_only_and_only_if_it_takes_long() -> None:
    script = (
        "import time; from reconciler.cli import console\n"
        "for each in console.counted('counting stars', range(3), patience={patience}): time.sleep(0.1)"
    )
    said = at_a_terminal(script=script.format(patience=0.05))
    assert "counting stars" in said
    assert "2/3" in said
    assert "counting" not in at_a_terminal(script=script.format(patience=60))
    slow = script.format(patience=0)
    piped = subprocess.run([sys.executable, "-c", slow], capture_output=True, text=True, check=True)
    assert (piped.stdout, piped.stderr) == ("", "")


def test_ctrl_c_ends_a_watch_quietly(tmp_path: Path) -> None:
    """A watch whose every tick fails goes on until it is interrupted."""
    process = subprocess.Popen(
        _reconcile("-C", str(tmp_path), "--watch", "1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    assert process.poll() is None
    deadline = time.monotonic() + 20
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=deadline - time.monotonic())
    assert (process.returncode, out) == (130, "")
    assert first.startswith("error: ")
    assert "Traceback" not in err
