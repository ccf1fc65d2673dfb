"""Orders by command, on a real repository and the embedded forge; the registry is a fake."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.cli.main import run
from reconciler.core.documents import Exceptions
from reconciler.core.strict_yaml import read
from reconciler.core.validation import validate
from tests.unit.test_cli_repository import FIRST, Clone, checked_out

Said = pytest.CaptureFixture[str]
PATH = "environments/production/exceptions/digits.yaml"
LATER = "2030-01-31T12:00:00Z"
HOLD = ["hold", "production/digits", "--reason", "yearly audit"]
ONE = f"sha256:{'1' * 64}"


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    made = checked_out(tmp_path, monkeypatch)
    made.pin(FIRST)
    made.push("version 1 in staging")
    return made


def merge(clone: Clone, number: str = "1") -> None:
    assert run(["pr", "merge", number]) == 0
    clone.git("fetch", "--quiet", "origin")


def main_says(clone: Clone) -> Exceptions:
    text = clone.git("show", f"origin/main:{PATH}")
    found = validate(Exceptions, read(text, PATH))
    assert isinstance(found, Exceptions)
    return found


def has_file(clone: Clone) -> bool:
    return bool(clone.git("ls-tree", "origin/main", PATH))


def test_a_hold_is_a_pull_request_of_whoever_ordered_it(clone: Clone, capsys: Said) -> None:
    clone.write("README.md", "not committed\n")
    before = clone.git("status", "--porcelain"), clone.git("rev-parse", "HEAD"), clone.git("branch", "--list")
    assert run([*HOLD, "--until", LATER]) == 0
    out, err = capsys.readouterr()
    assert out == "#1\n"
    assert f"Hold production/digits until {LATER}: it counts when it is merged" in err
    after = clone.git("status", "--porcelain"), clone.git("rev-parse", "HEAD"), clone.git("branch", "--list")
    assert before == after, "the working tree and the clone's branches are the person's own"
    assert run(["pr", "show", "1"]) == 0
    shown = capsys.readouterr().out
    assert "Ada" in shown
    assert "Reason: yearly audit" in shown
    assert f'+    until: "{LATER}"' in shown
    clone.git("fetch", "--quiet", "origin")
    head = "origin/hold/production/digits"
    assert clone.git("log", "-1", "--format=%an %ae", head) == "Ada ada@example.org"
    merge(clone)
    assert [hold.reason for hold in main_says(clone).holds] == ["yearly audit"]


def test_the_same_order_twice_is_one(clone: Clone, capsys: Said) -> None:
    assert run([*HOLD, "--until", "7d"]) == 0
    assert run([*HOLD, "--until", "7d"]) == 0
    out, err = capsys.readouterr()
    assert out == "#1\n#1\n"
    assert "is open already: Hold production/digits until" in err
    assert run(["hold", "production/digits", "--reason", "something else"]) == 1
    assert "#1 of Ada asks for something else" in capsys.readouterr().err
    merge(clone)
    (only,) = main_says(clone).holds
    assert only.until is not None
    assert timedelta(days=6) < only.until - datetime.now(UTC) <= timedelta(days=7, seconds=1)
    capsys.readouterr()
    assert run([*HOLD, "--until", only.until.isoformat()]) == 0
    assert capsys.readouterr() == ("", f"main says so already: {PATH}\n")


def test_a_hold_again_changes_its_end_and_nothing_else(clone: Clone) -> None:
    entries = f"  # Ann asked\n  - reason: yearly audit\n    until: {LATER}\n  - reason: b\n"
    written = f"apiVersion: trueup.dev/v1\nkind: Exceptions\nholds:\n{entries}"
    clone.write(PATH, written)
    clone.push("held")
    assert run(HOLD) == 0
    merge(clone)
    assert clone.git("show", f"origin/main:{PATH}") + "\n" == written.replace(f"    until: {LATER}\n", "")


def test_another_end_is_another_order(clone: Clone, capsys: Said) -> None:
    assert run([*HOLD, "--until", "7d"]) == 0
    capsys.readouterr()
    assert run([*HOLD, "--until", "9d"]) == 1
    assert "#1 of Ada asks for something else: Hold production/digits until" in capsys.readouterr().err


def test_taking_out_what_has_ended_is_not_lifting_what_holds(clone: Clone, capsys: Said) -> None:
    assert run(HOLD) == 0
    merge(clone)
    assert run(["unhold", "production/digits"]) == 0
    capsys.readouterr()
    assert run(["unhold", "production/digits", "--expired"]) == 1
    assert "asks for something else: Lift the holds of production/digits" in capsys.readouterr().err


def test_lifting_the_last_hold_removes_the_file(clone: Clone, capsys: Said) -> None:
    assert run(["unhold", "production/digits"]) == 0
    assert capsys.readouterr() == ("", "there is no hold on production/digits\n")
    assert run(HOLD) == 0
    merge(clone)
    capsys.readouterr()
    assert run(["unhold", "production/digits"]) == 0
    assert "lifts the hold: yearly audit" in capsys.readouterr().err
    merge(clone, "2")
    assert not has_file(clone)


def test_what_a_person_wrote_beside_it_stays(clone: Clone) -> None:
    clone.write(PATH, "# ours\napiVersion: trueup.dev/v1\nkind: Exceptions\nholds: [{reason: a}]\n")
    clone.push("held")
    assert run(["unhold", "production/digits"]) == 0
    merge(clone)
    assert clone.git("show", f"origin/main:{PATH}") == "# ours\napiVersion: trueup.dev/v1\nkind: Exceptions"


def test_opposite_orders_are_told_of_each_other(clone: Clone, capsys: Said) -> None:
    assert run(HOLD) == 0
    merge(clone)
    assert run(["hold", "production/digits", "--reason", "another"]) == 0
    clone.git("config", "user.name", "Grace")
    clone.git("config", "user.email", "grace@example.org")
    capsys.readouterr()
    assert run(["unhold", "production/digits"]) == 0
    out, err = capsys.readouterr()
    assert out == "#3\n"
    assert "#2 of Ada asks for the opposite (Hold production/digits): what is merged first counts" in err
    merge(clone, "3")
    assert run(["pr", "merge", "2"]) == 1, "main has moved under it"
    assert "conflicts with main" in capsys.readouterr().err


def test_only_what_is_over_is_taken_out(clone: Clone) -> None:
    old = '  - {reason: old, until: "2020-01-01T00:00:00Z"}\n'
    clone.write(PATH, f"apiVersion: trueup.dev/v1\nkind: Exceptions\nholds:\n{old}  - reason: new\n")
    clone.push("held")
    assert run(["unhold", "production/digits", "--expired"]) == 0
    merge(clone)
    assert [hold.reason for hold in main_says(clone).holds] == ["new"]


def test_a_waiver_is_for_the_present_candidate(clone: Clone, capsys: Said) -> None:
    asked = ["waive", "production/digits", "accuracy", "--reason", "new labels", "--expires", "7d"]
    assert run(asked) == 0
    out, err = capsys.readouterr()
    assert out == "#1\n"
    said = f"Version 1 ({ONE}) does not pass accuracy: there is no evidence of evaluate for this candidate."
    assert said in err
    assert run(asked) == 0
    assert capsys.readouterr().out == "#1\n"
    merge(clone)
    (waiver,) = main_says(clone).waivers
    assert (waiver.gate, waiver.digest, waiver.reason) == ("accuracy", ONE, "new labels")
    assert run(["waive", "production/digits", "accuracy", "--remove"]) == 0
    merge(clone, "2")
    assert not has_file(clone)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["hold", "production/digits", "--reason", "  "], "says nothing"),
        (["hold", "production/digits", "--reason", "x" * 501], "has more than 500 characters"),
        ([*HOLD, "--until", "soon"], "'soon' is neither an instant nor a duration"),
        ([*HOLD, "--until", "2030-01-31T12:00:00"], "has no time zone"),
        ([*HOLD, "--until", "2020-01-31T12:00:00Z"], "is past"),
        ([*HOLD, "--until", "0s"], "is past"),
        ([*HOLD, "--until", "999999999d"], "ends after the year 9999"),
        (
            ["hold", "prod/digits", "--reason", "x"],
            "main has no environment prod\nhint: there are production, staging",
        ),
        (["hold", "production/digit", "--reason", "x"], "main has no model digit\nhint: did you mean digits?"),
        (["waive", "production/digits", "accuracy", "--reason", "x"], "--expires: must be said"),
        (["waive", "production/digits", "accuracy", "--expires", "7d"], "--reason: says nothing"),
        (["waive", "production/digits", "accuracy", "--expired"], "--expired: goes with --remove"),
        (["waive", "production/digits", "x", "--remove", "--reason", "x"], "--remove: goes without"),
        (
            ["waive", "production/digits", "accurac", "--reason", "x", "--expires", "7d"],
            "the policy production of production has no gate accurac\nhint: did you mean accuracy?",
        ),
        (
            ["waive", "production/digits", "evaluation-data", "--reason", "x", "--expires", "7d"],
            "--digest: must be said for this gate",
        ),
        (
            ["waive", "staging/digits", "accuracy", "--reason", "x", "--expires", "7d"],
            "no version of training key",
        ),
        (["rollback", "staging/digits", "--reason", ""], "says nothing"),
    ],
)
def test_what_is_no_order(clone: Clone, arguments: list[str], said: str, capsys: Said) -> None:
    assert run(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err.replace("Invalid value for '", "").replace("' / '-r'", "").replace("': ", ": ")
    assert not clone.git("ls-remote", "origin", "refs/pull/*")


def test_a_waiver_of_the_rule_about_evaluation_data_names_the_data(clone: Clone) -> None:
    digest = f"md5:{'a' * 32}"
    order = [
        "waive",
        "staging/digits",
        "evaluation-data",
        "--digest",
        digest,
        "--reason",
        "x",
        "--expires",
        "7d",
    ]
    assert run(order) == 0


def test_a_broken_exceptions_file_is_left_to_its_author(clone: Clone, capsys: Said) -> None:
    clone.write(PATH, "apiVersion: trueup.dev/v1\nkind: Exceptions\nholds:\n  - reason: ''\n")
    clone.push("broken")
    assert run(HOLD) == 1
    assert f"{PATH}:4: holds[0].reason is empty\nhint: say why" in capsys.readouterr().err


# --- versions ---------------------------------------------------------------------------------------------

PROMOTE = ["promote", "production/digits", "--version", "1", "--reason", "the contract names it"]


def test_a_version_is_ordered_and_the_ticks_go_on_with_it(clone: Clone, capsys: Said) -> None:
    assert run([*HOLD]) == 0
    merge(clone)
    capsys.readouterr()
    assert run(PROMOTE) == 0
    out, err = capsys.readouterr()
    assert out == "#2\n"
    assert "Promote digits to production: version 1: trueup merges it when a person approves it." in err
    assert "production/digits is held: yearly audit; it is not merged before" in err
    assert run(["pr", "show", "2", "--no-diff"]) == 0
    shown = capsys.readouterr().out
    assert "ordered: the contract names it" in shown
    assert "Asked for by Ada." in shown
    assert run(PROMOTE) == 0
    out, err = capsys.readouterr()
    assert out == "#2\n"
    assert "is open already: Promote digits to production: version 1" in err
    assert run(["unhold", "production/digits"]) == 0
    merge(clone, "3")
    capsys.readouterr()
    assert run(["--dry-run", "--env", "production"]) == 0
    planned = capsys.readouterr().out
    assert "measure-evaluate-digits-" in planned
    assert "version 1 is the candidate" in planned
    assert "close-pull-request" not in planned


def test_what_ran_before_is_adopted(clone: Clone, capsys: Said) -> None:
    adopt = ["adopt", "production/digits", "--version", "1"]
    assert run([*adopt, "--digest", f"sha256:{'9' * 64}"]) == 1
    assert "is claimed" in capsys.readouterr().err
    assert run(adopt) == 0
    out, err = capsys.readouterr()
    assert out == "#1\n"
    assert "A person merges it, when a person approves it." in err
    assert "adopts version 1, which runs already; no gate was asked" in err
    assert run(adopt) == 0
    assert capsys.readouterr().out == "#1\n"
    clone.git("fetch", "--quiet", "origin")
    assert run(["admit", "--head", "trueup/adopt/production/digits"]) == 0
    assert "claims-no-gates" not in capsys.readouterr().err
    assert run(["--dry-run", "--env", "production"]) == 0
    assert "#1 needs 1 approval" in capsys.readouterr().out
    assert run(["adopt", "staging/digits", "--version", "1"]) == 1
    assert "trueup pins it already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*PROMOTE[:2], "--reason", "x", "--version", "7"], "version 7 of digits is not in the registry"),
        ([*PROMOTE[:2], "--reason", " "], "says nothing"),
        (["promote", "staging/digits", "--version", "1", "--reason", "x"], "version 1 is pinned already"),
        (["promote", "staging/digit", "--reason", "x"], "main has no such environment or model"),
        (["adopt", "production/digits", "--version", "1", "--digest", "x"], "'x' is no artifact digest"),
        (
            ["waive", "production/digits", "accuracy", "--digest", "x", "--reason", "x", "--expires", "7d"],
            "digest 'x' is not acceptable",
        ),
    ],
)
def test_what_is_no_order_of_a_version(clone: Clone, arguments: list[str], said: str, capsys: Said) -> None:
    assert run(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert not clone.git("ls-remote", "origin", "refs/pull/*")
