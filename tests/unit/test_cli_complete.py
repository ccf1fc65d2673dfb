"""Completion by the shells' own protocols: names of this checkout, and never a word on standard error."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.test_cli_start import HEAVY

PROGRAM = "import sys; from reconciler.cli.main import main; main()"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("staging", "production", "x; rm -rf ~"):
        (tmp_path / "environments" / name).mkdir(parents=True)
        (tmp_path / "environments" / name / "environment.yaml").write_text("not: [parsed")
    (tmp_path / "environments/no-document").mkdir()
    for name in ("digits", "spam"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "model.yaml").touch()
    for place, name in enumerate(("train-digits-1", "train-digits-2", "measure-parity-digits-1")):
        run = tmp_path / ".trueup/engine/runs" / name
        run.mkdir(parents=True)
        (run / "run.json").touch()
        os.utime(run, (place, place))
    (tmp_path / "below").mkdir()
    return tmp_path


def asked(cwd: Path, program: str = PROGRAM, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "TRUEUP_HOME"}
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=cwd,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def in_bash(cwd: Path, typed: str) -> list[str]:
    """What is offered where ``typed`` ends."""
    words = typed.split(" ")
    given = {"COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1), "_RECONCILE_COMPLETE": "complete_bash"}
    done = asked(cwd, **given)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("reconcile sta", ["status"]),
        ("reconcile explain ", ["digits", "spam"]),
        ("reconcile explain sp", ["spam"]),
        ("reconcile explain digits ", ["production", "staging"]),
        ("reconcile history staging/", ["staging/digits", "staging/spam"]),
        ("reconcile --env ", ["production", "staging"]),
        ("reconcile --env staging --model d", ["digits"]),
        ("reconcile render --upgrade p", ["production"]),
        ("reconcile logs ", ["measure-parity-digits-1", "train-digits-2", "train-digits-1"]),
        ("reconcile logs -f tr", ["train-digits-2", "train-digits-1"]),
        ("reconcile logs pr", ["production/digits", "production/spam"]),
        ("reconcile -o m", ["markdown"]),
        ("reconcile pr op", ["open"]),
        ("reconcile -C / explain ", []),
        ("reconcile -C /no/such explain ", []),
    ],
)
def test_bash_is_offered(typed: str, offered: list[str], checkout: Path) -> None:
    found = in_bash(checkout / "below", typed)
    assert (found[: len(offered)] if typed == "reconcile logs " else found) == offered


def test_zsh_and_fish_are_offered_the_same(checkout: Path) -> None:
    typed = {"_TYPER_COMPLETE_ARGS": "reconcile explain "}
    zsh = asked(checkout, _RECONCILE_COMPLETE="complete_zsh", **typed)
    assert (zsh.stdout, zsh.stderr) == ("""_arguments '*: :(("digits"\n"spam"))'\n""", "")
    fish = {"_RECONCILE_COMPLETE": "complete_fish", **typed}
    got = asked(checkout, **fish, _TYPER_COMPLETE_FISH_ACTION="get-args")
    assert (got.stdout, got.stderr) == ("digits\nspam\n", "")
    assert asked(checkout, **fish, _TYPER_COMPLETE_FISH_ACTION="is-args").returncode == 0


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"COMP_WORDS": "reconcile 'x", "COMP_CWORD": "1"},
        {"COMP_WORDS": "reconcile explain ", "COMP_CWORD": "many"},
        {"COMP_WORDS": "reconcile explain ", "COMP_CWORD": "2", "TRUEUP_HOME": "/proc/1/root"},
        {"COMP_WORDS": "reconcile logs ", "COMP_CWORD": "2", "TRUEUP_HOME": "\n"},
    ],
)
def test_whatever_goes_wrong_says_nothing(environment: dict[str, str], checkout: Path) -> None:
    assert asked(checkout, _RECONCILE_COMPLETE="complete_bash", **environment).stderr == ""
    assert asked(checkout, _RECONCILE_COMPLETE="nonsense", **environment).stderr == ""


def test_it_imports_nothing_heavy_and_asks_no_other_process(checkout: Path) -> None:
    program = (
        "import subprocess, sys\n"
        "def refuse(*_, **__): raise AssertionError\n"
        "subprocess.Popen.__init__ = refuse\n"
        "from reconciler.cli.complete import answer\n"
        "from reconciler.cli.main import app\n"
        "code = answer(app)\n"
        "print('MODULES', code, *sys.modules)\n"
    )
    given = {"COMP_WORDS": "reconcile explain ", "COMP_CWORD": "2", "_RECONCILE_COMPLETE": "complete_bash"}
    said = asked(checkout, program, **given).stdout
    names, _, rest = said.partition("MODULES ")
    assert names.split() == ["digits", "spam"]
    code, *modules = rest.split()
    assert code == "0"
    assert {name.partition(".")[0] for name in modules} & (HEAVY | {"rich", "ruamel"}) == set()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_script_works_in_bash_itself(checkout: Path, tmp_path: Path) -> None:
    """The function that ``--show-completion`` prints, called as bash calls it."""
    program = tmp_path / "bin" / "reconcile"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{PROGRAM}\n")
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    script = """
        eval "$(reconcile --show-completion bash)"
        COMP_WORDS=(reconcile explain digits pro); COMP_CWORD=3
        _reconcile_completion reconcile
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=checkout,
        env={**os.environ, "PATH": path, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("production\n", "")


def test_nothing_of_the_person_s_is_written_unasked(checkout: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for arguments in ("--show-completion bash", "--help", "version"):
        program = f"import sys; sys.argv = ['reconcile', *{arguments.split()!r}]; {PROGRAM}"
        done = asked(checkout, program, HOME=str(home), _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
        assert (done.returncode, done.stderr) == (0, "")
    assert list(home.iterdir()) == []
