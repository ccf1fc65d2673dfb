"""`reconcile new-environment`: valid at once, like the one before it, and no model is changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.cli.init import init
from reconciler.cli.main import run

KUBERNETES = """\
clusters:
  local:
    type: kubernetes
    namespaces: [staging, production, eu]
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    config = tmp_path / "gitconfig"
    config.write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    init(tmp_path / "models", say=lambda _: None)
    return tmp_path / "models"


def new_environment(repository: Path, *arguments: str) -> int:
    return run(["-C", str(repository), "new-environment", *arguments])


def document(repository: Path, name: str) -> str:
    return (repository / f"environments/{name}/environment.yaml").read_text()


def test_it_is_valid_at_once_and_takes_after_the_one_before(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new_environment(repository, "eu", "--promotes-from", "production") == 0
    said = capsys.readouterr().out
    assert said.startswith("wrote environments/eu/environment.yaml\n")
    assert "a model goes there when its model.yaml names it under environments" in said
    assert run(["-C", str(repository), "validate"]) == 0
    assert capsys.readouterr().out.startswith("Valid. 3 environments")
    text = document(repository, "eu")
    for line in ("allOf: [production]", "policy: production", "alias: eu", "namespace: eu", "approvals: 1"):
        assert line in text


def test_of_several_and_of_none(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = ("--promotes-from", "staging", "--promotes-from", "production", "--policy", "dev")
    assert new_environment(repository, "4eyes", *both) == 0
    assert new_environment(repository, "dev", "--policy", "dev") == 0
    assert run(["-C", str(repository), "validate"]) == 0
    assert "allOf: [staging, production]" in document(repository, "4eyes")
    assert "alias: env-4eyes\n" in document(repository, "4eyes")
    assert "promotesFrom:" not in document(repository, "dev")
    assert "approvals: 0" in document(repository, "dev")


def test_a_cluster_that_is_kubernetes_must_list_the_namespace(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    platform = repository / "environments/platform.yaml"
    text = platform.read_text()
    platform.write_text(text[: text.index("clusters:")] + KUBERNETES)
    assert new_environment(repository, "eu", "--promotes-from", "production") == 0
    assert new_environment(repository, "us", "--promotes-from", "production") == 1
    assert "does not list the namespace us" in capsys.readouterr().err
    assert run(["-C", str(repository), "validate"]) == 0


def test_what_runs_there_is_as_before_it(repository: Path) -> None:
    before = repository / "environments/production/environment.yaml"
    runtime = (
        "runtime:\n  renderer: rollout/v1\n  prometheus: http://prometheus.monitoring.svc:9090\n  istio: true"
    )
    before.write_text(before.read_text() + runtime + "\n")
    assert new_environment(repository, "eu", "--promotes-from", "production") == 0
    assert run(["-C", str(repository), "validate"]) == 0
    assert '  prometheus: "http://prometheus.monitoring.svc:9090"\n  istio: true\n' in document(
        repository, "eu"
    )


def test_each_model_gets_its_line_and_stays_as_it_is(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["-C", str(repository), "new-model", "churn"]) == 0
    model = repository / "models/churn/model.yaml"
    text = model.read_text()
    capsys.readouterr()
    assert new_environment(repository, "eu", "--promotes-from", "production") == 0
    assert "in models/churn/model.yaml, if it is to go there: environments: [eu]\n" in capsys.readouterr().out
    assert model.read_text() == text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["EU", "--promotes-from", "staging"], "hint: reconcile new-environment eu\n"),
        (["production", "--promotes-from", "staging"], "environments/production: is there already"),
        (["eu", "--promotes-from", "stagin"], "there is no environment stagin\nhint: did you mean staging?"),
        (["eu", "--promotes-from", "staging", "--policy", "prod"], "there is no policy prod\n"),
        (["eu"], "needs --policy NAME where it promotes from no other environment"),
    ],
)
def test_a_slip_is_told_and_nothing_is_written(
    repository: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new_environment(repository, *arguments) == 1
    assert said in capsys.readouterr().err
    assert not (repository / "environments/eu").exists()
