"""`reconcile policy test`: cases are judged by the real judge, and what was never seen is said."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from reconciler.adapters.folder_source import FolderSource
from reconciler.cli.main import run
from reconciler.core.documents import PolicyTest
from reconciler.core.policy_tests import Rehearsed
from reconciler.load import load
from reconciler.planning.policy_tests import run_tests

ROOT = Path(__file__).parents[2]
HEADER = "apiVersion: trueup.dev/v1\nkind: "
POLICY = f"""\
{HEADER}GatePolicy
gates:
  - name: accuracy
    metric: evaluate.accuracy
    versus: {{ref: champion, maxDrop: 0.02}}
    op: ">="
    threshold: 0.9
    minSamples: 500
    maxAge: 30d
    onFail: review
    onNoChampion: absolute
  - name: drift
    metric: drift.psi-max
    op: "<="
    threshold: 0.2
    slices: [feature]
    when: {{declares: [monitoring.record], changes: [version]}}
"""
GIVEN = f"""\
{HEADER}PolicyTest
policies: [base]
model: {{declares: [monitoring.record]}}
evidence:
  evaluate:
    n: 1000
    metrics:
      accuracy: {{value: 0.95, champion: 0.95, difference: {{value: 0, low: -0.01, high: 0.01}}}}
  drift:
    n: 1000
    metrics:
      psi-max: {{value: 0.1, slices: {{feature: {{hour: {{value: 0.1}}}}}}}}
cases:
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one policy, tests of which a test writes."""
    for name in ("environments", "models"):
        (tmp_path / name).mkdir()
    shutil.copytree(ROOT / "workflows/rendered", tmp_path / "workflows/rendered")
    (tmp_path / "policies/tests").mkdir(parents=True)
    (tmp_path / "policies/base.yaml").write_text(POLICY)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rehearsed(folder: Path, cases: str) -> Rehearsed:
    (folder / "policies/tests/base.yaml").write_text(GIVEN + cases)
    source = FolderSource(folder)
    state = load(source, source.head())
    assert [str(problem) for problem in state.problems] == []
    return run_tests(state.policy_tests, state.policies)


def case(fields: str, expect: str = "others: pass") -> str:
    return f"  - {{name: one, {fields}{', ' if fields else ''}{expect}}}\n"


@pytest.mark.parametrize(
    ("fields", "accuracy", "drift", "seen"),
    [
        ("", "pass", "pass", ("pass", "pass")),
        ("measured: false", "block", "block", ("missing", "missing")),
        ("evidence: {evaluate: null}", "block", "pass", ("missing", "pass")),
        ("evidence: {evaluate: {metrics: {accuracy: null}}}", "block", "pass", ("missing", "pass")),
        ("evidence: {evaluate: {metrics: {accuracy: {value: 0.89}}}}", "review", "pass", ("fail", "pass")),
        ("evidence: {evaluate: {metrics: {accuracy: {value: null}}}}", "block", "pass", ("missing", "pass")),
        (
            "evidence: {evaluate: {metrics: {accuracy: {difference: {low: -0.03}}}}}",
            "review",
            "pass",
            ("fail", "pass"),
        ),
        ("evidence: {evaluate: {n: 499}}", "block", "pass", ("missing", "pass")),
        ("evidence: {evaluate: {metrics: {accuracy: {n: 499}}}}", "block", "pass", ("missing", "pass")),
        ("evidence: {evaluate: {age: 31d}}", "block", "pass", ("missing", "pass")),
        (
            "evidence: {drift: {metrics: {psi-max: {slices: {feature: {day: {value: 0.3}}}}}}}",
            "pass",
            "block",
            ("pass", "fail"),
        ),
        ("change: serving", "pass", "not-asked", ("pass", None)),
        ("model: {declares: []}", "pass", "not-asked", ("pass", None)),
        ("traffic: false", "pass", "block", ("pass", None)),
        ("champion: false", "pass", "review", ("pass", None)),
        (
            "waived: [accuracy], evidence: {evaluate: {metrics: {accuracy: {value: 0.1}}}}",
            "pass",
            "pass",
            (None, "pass"),
        ),
    ],
)
def test_a_case_changes_what_it_says_and_nothing_else(
    folder: Path, fields: str, accuracy: str, drift: str, seen: tuple[str | None, str | None]
) -> None:
    done = rehearsed(folder, case(fields, f"expect: {{accuracy: {accuracy}, drift: {drift}}}"))
    assert [answer for answer in done.answers if not answer.right] == []
    assert tuple(answer.seen for answer in done.answers) == seen


def test_what_is_not_expected_is_not_seen(folder: Path) -> None:
    done = rehearsed(folder, case("", "expect: {accuracy: pass, drift: block}"))
    assert [(gate.gate, gate.seen) for gate in done.coverage] == [("accuracy", ("pass",)), ("drift", ())]
    assert [(answer.gate, answer.got) for answer in done.wrong] == [("drift", "pass")]
    assert done.share == pytest.approx(1 / 6)


def test_all_gates_together(folder: Path) -> None:
    cases = case("evidence: {evaluate: {metrics: {accuracy: {value: 0.1}}}}", "verdict: review")
    cases += case("measured: false", "verdict: review") + case("", "verdict: pass")
    right, wrong, passes = rehearsed(folder, cases).answers
    assert (right.got, wrong.got, passes.got) == ("review", "block", "pass")
    assert "drift: there is no evidence of drift" in wrong.why


def test_the_command_names_the_line_the_gate_and_why(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "policies/tests/base.yaml"
    path.write_text(GIVEN + "  - name: too bad\n    expect:\n      accuracy: pass\n      drift: block\n")
    assert run(["policy", "test"]) == 1
    said = capsys.readouterr().out
    assert "policies/tests/base.yaml:18: wrong: base, 'too bad': gate drift: expected block, got pass\n" in said
    assert "    feature=hour: 0.1 <= 0.2\n" in said
    assert "not seen  base: gate drift: pass, fail, missing\n" in said
    path.write_text(GIVEN + case("") + case("measured: false", "others: block"))
    assert run(["policy", "test", "policies/tests", "--coverage-min", "66"]) == 0
    assert run(["policy", "test", "--coverage-min", "67"]) == 1
    assert "66.7% of the gates' answers were seen, and --coverage-min is 67%" in capsys.readouterr().err
    assert run(["policy", "test", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["cases"], [gate["gate"] for gate in told["coverage"]]) == (2, ["accuracy", "drift"])


def test_of_one_file_it_does_not_name_all_that_others_see(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("base", "more"):
        (folder / f"policies/tests/{name}.yaml").write_text(GIVEN + case(""))
    assert run(["policy", "test", "policies/tests/base.yaml"]) == 0
    assert "not seen" not in capsys.readouterr().out
    assert run(["policy", "test", "policies/tests/base.yaml", "--coverage-min", "1"]) == 0
    assert "not seen" in capsys.readouterr().out


def test_a_policy_is_shown_with_what_it_extends(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = "  - name: size\n    metric: files.size-mb\n    op: <=\n    threshold: 100\n"
    (folder / "policies/child.yaml").write_text(f"{HEADER}GatePolicy\nextends: base\ngates:\n{own}")
    assert run(["policy", "show", "child"]) == 0
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [words[:6] for words in said[1:]] == [
        ["accuracy", "evaluate.accuracy", "base", "review", "block", "absolute"],
        ["drift", "drift.psi-max", "base", "block", "block", "-"],
        ["size", "files.size-mb", "child", "block", "block", "-"],
    ]
    assert run(["policy", "show", "child", "-o", "json"]) == 0
    assert [gate["from"] for gate in json.loads(capsys.readouterr().out)] == ["base", "base", "child"]
    assert run(["policy", "show", "chidl"]) == 1
    assert "there is no policy chidl\nhint: did you mean child?" in capsys.readouterr().err
    (folder / "policies/child.yaml").write_text(f"{HEADER}GatePolicy\nextends: none\n")
    assert run(["policy", "show", "child"]) == 1
    assert "policies/child.yaml:3: " in capsys.readouterr().err
    (folder / "policies/child.yaml").write_text(f"{HEADER}GatePolicy\nextends: base\n")
    (folder / "policies/base.yaml").write_text(POLICY.replace("evaluate.accuracy", "nobody.accuracy"))
    assert run(["policy", "show", "child"]) == 1
    assert "policies/child.yaml: extends a policy that has an error" in capsys.readouterr().err


def test_the_command_refuses_what_it_cannot_put_to_the_test(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["policy", "test"]) == 0
    assert "0 answers to 0 cases, 0% of the gates' answers seen" in capsys.readouterr().out
    assert run(["policy", "test", "--coverage-min", "1"]) == 1
    capsys.readouterr()
    path = folder / "policies/tests/base.yaml"
    path.write_text(GIVEN + "  - {name: one, expect: {acuracy: pass}}\n")
    assert run(["policy", "test"]) == 1
    assert "policies/tests/base.yaml:15: names the gate acuracy" in capsys.readouterr().err
    path.write_text(GIVEN + case(""))
    assert run(["policy", "test", "policies/tests/other.yaml"]) == 1
    assert "name a file of policies/tests" in capsys.readouterr().err
    (folder / "policies/base.yaml").write_text(POLICY.replace("0.9", "much"))
    assert run(["policy", "test"]) == 1
    assert "policies/base.yaml:8: gates[0].threshold" in capsys.readouterr().err


def test_what_ships_is_covered_whole() -> None:
    """Every gate was seen to pass, to fail with its onFail, and to be missing: `make check` asks the same."""
    source = FolderSource(ROOT)
    state = load(source, source.head())
    done = run_tests(state.policy_tests, state.policies)
    assert [str(answer) for answer in done.wrong] == []
    assert {f"{gate.policy}/{gate.gate}": gate.unseen for gate in done.coverage if gate.unseen} == {}


def test_a_test_may_not_expect_nothing() -> None:
    with pytest.raises(ValueError, match="expects nothing"):
        PolicyTest.model_validate({"kind": "PolicyTest", "policies": ("base",), "cases": ({"name": "one"},)})
