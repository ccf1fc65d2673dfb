"""The commands on a real Gitea: people by their own token, trueup without a clone, and no token seen."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from reconciler.cli.main import run
from reconciler.core.observed import TAG_DIGEST, TAG_KEY, ModelVersion, RegisteredModel, RegistrySweep
from tests.contract.forge_worlds import GiteaWorld
from tests.doubles.documents import environment, model, shipped
from tests.servers.gitea import Gitea

pytestmark = pytest.mark.forge

Said = pytest.CaptureFixture[str]


def platform(world: GiteaWorld, token: Path) -> str:
    return f"""\
apiVersion: trueup.dev/v1
kind: Platform
forge:
  type: gitea
  url: {world.url}
  repository: {world.repository}
  token: {{file: {token}}}
"""


@pytest.fixture
def world(gitea: Gitea, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GiteaWorld:
    files = shipped() | environment("staging") | model("digits", "staging")
    made = GiteaWorld(tmp_path, gitea, files)
    made.push({"environments/platform.yaml": platform(made, tmp_path / "token")})
    for name in ("TRUEUP_TOKEN", "TRUEUP_PLATFORM", "TRUEUP_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TRUEUP_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(made.clone)
    return made


def test_people_open_approve_merge_and_close_as_themselves(
    world: GiteaWorld, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    assert run(["pr", "list"]) == 1
    assert "hint: make one in your account's settings" in capsys.readouterr().err
    monkeypatch.setenv("TRUEUP_TOKEN", world.tokens["Ada"])
    world.push({"README.md": "better\n"}, "better")
    assert run(["pr", "open", "better", "--title", "A better README"]) == 0
    assert run(["pr", "approve", "1"]) == 1
    assert "pull request 1 is by Ada, who cannot approve it" in capsys.readouterr().err
    monkeypatch.setenv("TRUEUP_TOKEN", world.tokens["Grace"])
    assert run(["pr", "approve", "1"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("approved #1 at ")
    assert "secure nothing" not in err
    assert run(["pr", "list"]) == 0
    listed = capsys.readouterr().out.splitlines()[-1].split()
    assert (listed[:2], listed[-4:]) == (["#1", "Ada"], ["yes", "A", "better", "README"])
    assert "Grace" in listed
    assert run(["pr", "show", "1"]) == 0
    assert "+better" in capsys.readouterr().out
    assert run(["pr", "merge", "1"]) == 0
    assert world.show("main:README.md") == "better"
    world.push({"README.md": "worse\n"}, "worse")
    assert run(["pr", "open", "worse", "--title", "A worse one"]) == 0
    assert run(["pr", "close", "2", "--reason", "no"]) == 0
    assert world.forge().get(2).closed_by == "Grace"
    out, err = capsys.readouterr()
    assert not any(token in out + err for token in world.tokens.values())


def test_trueup_needs_no_clone_and_reads_its_token_from_a_file(
    world: GiteaWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "platform.yaml").write_text(platform(world, tmp_path / "token"))
    monkeypatch.chdir(empty)
    monkeypatch.setenv("TRUEUP_REPOSITORY", world.forge().remote)
    monkeypatch.setenv("TRUEUP_PLATFORM", str(tmp_path / "platform.yaml"))
    assert run(["--dry-run"]) == 1, "without its token a private repository cannot be fetched"
    capsys.readouterr()
    (tmp_path / "token").write_text(f"{world.tokens['trueup']}\n")
    assert run(["--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert "submit-workflow  train-digits-" in out
    assert "0 gaps" in out
    assert list(empty.iterdir()) == []
    assert world.tokens["trueup"] not in out + err


def test_the_doctor_tells_a_token_that_may_write_from_one_that_may_only_read(
    world: GiteaWorld, gitea: Gitea, tmp_path: Path, capsys: Said
) -> None:
    def examined(token: str) -> tuple[int, list[tuple[str, str, str]]]:
        (tmp_path / "token").write_text(f"{token}\n")
        code = run(["doctor", "--output", "json"])
        out, err = capsys.readouterr()
        assert not any(each in out + err for each in (token, *world.tokens.values()))
        found = [each for each in json.loads(out) if each["check"] == "forge"]
        return code, [(each["state"], each["what"], each["hint"]) for each in found]

    writes, read = ("ok", "trueup may write to the repository", ""), ("ok", "is read: 0 open pull requests", "")
    code, found = examined(world.tokens["trueup"])
    assert code == 0
    assert found[0] == writes
    assert found[1][:2] == ("warn", "main is not protected: anybody who may write can push to it")
    world.protect()
    assert examined(world.tokens["trueup"]) == (0, [writes, ("ok", "main is protected", ""), read])
    made = httpx.post(
        f"{gitea.url}/api/v1/users/trueup/tokens",
        auth=("trueup", gitea.password),
        json={"name": f"reads {world.repository}", "scopes": ["read:user", "read:repository", "read:issue"]},
        timeout=30,
    )
    code, found = examined(made.raise_for_status().json()["sha1"])
    assert code == 1
    assert found[0][:2] == ("fail", "trueup may write to the repository, and its token may not")
    assert found[0][2].startswith("make it one with the right to write to this repository")
    world.invite("trueup", "read")
    code, found = examined(world.tokens["trueup"])
    assert code == 1
    assert found[0][:2] == ("fail", "trueup may not write to the repository")


class OneVersion:
    """A registry with version 1 of digits, from a training before main's."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def sweep(self) -> RegistrySweep:
        tags = {TAG_DIGEST: f"sha256:{'1' * 64}", TAG_KEY: "0" * 12}
        version = ModelVersion(version="1", created=datetime(2026, 3, 1, tzinfo=UTC), tags=tags)
        return RegistrySweep(models={"digits": RegisteredModel(versions=(version,))})


def test_a_hold_is_a_persons_and_an_ordered_version_is_trueups(
    world: GiteaWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.setattr("reconciler.adapters.mlflow_registry.MlflowRegistry", OneVersion)
    monkeypatch.setenv("TRUEUP_TOKEN", world.tokens["Ada"])
    hold = ["hold", "staging/digits", "--reason", "yearly audit", "--until", "7d"]
    assert run(hold) == 0, "without trueup's token, which a person does not have"
    assert run(hold) == 0
    assert capsys.readouterr().out == "#1\n#1\n"
    pull = world.forge().get(1)
    assert (pull.author, pull.branch, pull.ours) == ("Ada", "hold/staging/digits", False)
    assert "Reason: yearly audit" in pull.body
    monkeypatch.setenv("TRUEUP_TOKEN", world.tokens["Grace"])
    assert run(["pr", "approve", "1"]) == 0
    assert run(["pr", "merge", "1"]) == 0
    assert "reason: yearly audit" in world.show("main:environments/staging/exceptions/digits.yaml")
    (tmp_path / "token").write_text(f"{world.tokens['trueup']}\n")
    capsys.readouterr()
    promote = ["promote", "staging/digits", "--version", "1", "--reason", "the labels were wrong"]
    assert run(promote) == 0
    assert run(promote) == 0
    out, err = capsys.readouterr()
    assert out == "#2\n#2\n"
    assert "staging/digits is held until" in err
    pull = world.forge().get(2)
    assert (pull.author, pull.branch, pull.ours, pull.draft) == (
        "trueup",
        "trueup/promote/staging/digits",
        True,
        True,
    )
    assert pull.marker is not None
    assert pull.marker.version == "1"
    assert run(["--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert "held" in out
    assert "close-pull-request" not in out
    assert not any(token in out + err for token in world.tokens.values())
