"""The commands on a real repository with its bare origin and embedded forge; only the registry is a fake."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.adapters.folder_source import FolderSource
from reconciler.cli.main import run
from reconciler.core.canonical import dump_document
from reconciler.core.documents import (
    KINDS,
    Admission,
    Environment,
    Pin,
    Rejected,
    Release,
    evidence_path,
    release_path,
    rendered_folder,
)
from reconciler.core.observed import ModelVersion, RegisteredModel, RegistrySweep, VerifiedMark, verified_tag
from reconciler.core.serving import ServingSnapshot
from reconciler.core.strict_yaml import read
from reconciler.core.validation import validate
from reconciler.load import load
from reconciler.planning.renderers import render

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")


def release(version: str, digest: str, **more: object) -> Release:
    return Release.model_validate(
        {
            "kind": "Release",
            "pin": Pin(registry="default", name="digits", version=version, digest=digest),
            "image": f"trueup/server@sha256:{'0' * 64}",
            "serving": ServingSnapshot(),
            "renderer": "deployment/v1",
            "admission": Admission(grounds="promotion", judged_at=AT),
            **more,
        }
    )


FIRST, SECOND = release("1", ONE), release("2", TWO)


class FakeRegistry:
    """One model whose version 1 was verified in staging."""

    def __init__(self, uri: str) -> None:
        assert uri.startswith("sqlite:///")

    def sweep(self) -> RegistrySweep:
        mark = str(VerifiedMark(release=FIRST.digest, at=AT))
        version = ModelVersion(
            version="1", created=AT, tags={"trueup.digest": ONE, verified_tag("staging"): mark}
        )
        return RegistrySweep(models={"digits": RegisteredModel(versions=(version,))})


class Clone:
    """A person's clone of a GitOps repository, its origin beside it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "models"
        self.origin = folder / "models.git"
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.origin), cwd=folder)
        self.git("clone", "--quiet", str(self.origin), str(self.root), cwd=folder)
        for key, value in (
            ("user.name", "Ada"),
            ("user.email", "ada@example.org"),
            ("commit.gpgSign", "false"),
        ):
            self.git("config", key, value)
        for name in ("environments", "policies", "models", "workflows"):
            ignored = shutil.ignore_patterns(
                "*.csv", "__pycache__", "releases", "templates", "steps", "server", "*.py"
            )
            shutil.copytree(ROOT / name, self.root / name, ignore=ignored)
        (self.root / "models/digits/src/train.py").write_text("")
        self.push("the repository")

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=cwd or self.root, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def push(self, message: str, branch: str = "main") -> str:
        self.git("checkout", "--quiet", "-B", branch)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        self.git("push", "--quiet", "origin", branch)
        return self.git("rev-parse", "HEAD")

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def pin(self, pinned: Release, environment: str = "staging") -> None:
        self.write(release_path(environment, "digits"), dump_document(pinned))
        path = f"environments/{environment}/environment.yaml"
        document = validate(Environment, read((self.root / path).read_bytes(), path))
        assert isinstance(document, Environment)
        for name, text in render(environment, document, "digits", pinned).items():
            self.write(f"{rendered_folder(environment, 'digits')}/{name}", text)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    return checked_out(tmp_path, monkeypatch)


def checked_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A fresh one, where the commands run and the registry is a fake."""
    trueups = ("TRUEUP_HOME", "TRUEUP_DEBUG", "TRUEUP_TOKEN", "TRUEUP_PLATFORM", "TRUEUP_REPOSITORY")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "NO_COLOR", "FORCE_COLOR", *trueups):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("reconciler.adapters.mlflow_registry.MlflowRegistry", FakeRegistry)
    made = Clone(tmp_path)
    monkeypatch.chdir(made.root)
    return made


Said = pytest.CaptureFixture[str]


# --- documents --------------------------------------------------------------------------------------------


def test_validate_says_what_is_valid(clone: Clone, capsys: Said) -> None:
    assert run(["validate"]) == 0
    assert capsys.readouterr() == ("Valid. 2 environments, 2 models, 0 releases, 3 policies.\n", "")


def test_validate_says_everything_that_is_wrong_at_once(clone: Clone, capsys: Said) -> None:
    path = clone.root / "environments/staging/environment.yaml"
    text = path.read_text().replace("soak: 10m", "soak: 10 minutes").replace("alias: staging", "alais: staging")
    path.write_text(text)
    assert run(["validate"]) == 1
    out = capsys.readouterr().out
    assert out.count("environments/staging/environment.yaml:") >= 3
    assert "10 minutes" in out
    assert "hint: did you mean alias?" in out
    assert run(["validate", "--output", "json"]) == 1
    problems = json.loads(capsys.readouterr().out)
    assert {problem["path"] for problem in problems} >= {"environments/staging/environment.yaml"}


def test_validate_reads_what_is_not_committed_from_a_subfolder(
    clone: Clone, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone.write("policies/broken.yaml", "kind: [")
    monkeypatch.chdir(clone.root / "policies")
    assert run(["validate"]) == 1
    assert "policies/broken.yaml:" in capsys.readouterr().out


def test_schema_of_one_of_all_and_to_files(clone: Clone, capsys: Said, tmp_path: Path) -> None:
    assert run(["schema", "Model"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {"apiVersion", "kind", "owner"} <= set(schema["required"])
    assert run(["schema"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == KINDS.keys()
    assert run(["schema", "--dir", str(tmp_path / "schemas")]) == 0
    assert {path.stem for path in (tmp_path / "schemas").iterdir()} == KINDS.keys()
    assert capsys.readouterr().out == ""


# --- render -----------------------------------------------------------------------------------------------


def test_render_prints_what_is_committed(clone: Clone, capsys: Said) -> None:
    clone.pin(FIRST)
    assert run(["render"]) == 0
    everything = capsys.readouterr().out
    assert run(["render", "staging/digits"]) == 0
    assert capsys.readouterr().out == everything
    folder = rendered_folder("staging", "digits")
    for name in ("deployment.yaml", "service.yaml"):
        text = (clone.root / folder / name).read_text()
        assert f"---\n# {folder}/{name}\n{text}" in everything
    assert run(["render", "--check"]) == 0
    assert capsys.readouterr().out == ""


def test_render_check_finds_a_byte_a_loss_and_a_leftover(clone: Clone, capsys: Said) -> None:
    clone.pin(FIRST)
    folder = clone.root / rendered_folder("staging", "digits")
    (folder / "deployment.yaml").write_text((folder / "deployment.yaml").read_text() + " ")
    (folder / "service.yaml").unlink()
    (folder / "extra.yaml").write_text("a: 1\n")
    assert run(["render", "--check"]) == 1
    assert [line.rpartition("/")[2] for line in capsys.readouterr().out.splitlines()] == [
        "deployment.yaml: is not what this Release renders to",
        "extra.yaml: belongs to no release",
        "service.yaml: is missing",
    ]
    assert run(["render", "production/digits"]) == 1
    assert capsys.readouterr().err.startswith("error: production/digits: there is no such release\n")


# --- pull requests ----------------------------------------------------------------------------------------


def test_render_upgrade_opens_a_persons_pull_request(
    clone: Clone, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clone.root / "environments/staging/environment.yaml"
    assert run(["render", "--upgrade", "staging"]) == 0
    assert capsys.readouterr().err == "every release of staging has its renderer\n"
    clone.pin(FIRST)
    clone.write("policies/free.yaml", "apiVersion: trueup.dev/v1\nkind: GatePolicy\n")
    runtime = "runtime: {renderer: rollout/v1, prometheus: 'http://prometheus:9090'}\n"
    path.write_text(path.read_text().replace("policy: staging", "policy: free") + runtime)
    clone.push("version 1, and another renderer since")
    assert run(["render", "--upgrade", "staging"]) == 1
    said = capsys.readouterr()
    assert (said.out, "no version of training key" in said.err) == ("", True)

    key = load(FolderSource(clone.root), "").training_key("digits")
    swept = FakeRegistry.sweep

    def trained(registry: FakeRegistry) -> RegistrySweep:
        (version,) = swept(registry).models["digits"].versions
        tagged = version.model_copy(update={"tags": {**version.tags, "trueup.training-key": key}})
        return RegistrySweep(models={"digits": RegisteredModel(versions=(tagged,))})

    monkeypatch.setattr(FakeRegistry, "sweep", trained)
    assert run(["render", "--upgrade", "staging"]) == 0
    said = capsys.readouterr()
    assert said.out == "#1\n"
    assert "Render digits in staging with rollout/v1" in said.err
    assert run(["render", "--upgrade", "staging"]) == 1
    assert "#1 is open already" in capsys.readouterr().err
    assert run(["render", "--upgrade", "staging", "--check"]) == 1
    assert "--upgrade: goes alone" in capsys.readouterr().err


def test_a_pull_request_from_open_to_merged(clone: Clone, capsys: Said) -> None:
    assert run(["pr", "list"]) == 0
    assert capsys.readouterr().out == "No pull request is open.\n"
    clone.write("policies/more.yaml", "apiVersion: trueup.dev/v1\nkind: GatePolicy\nextends: dev\n")
    clone.push("policy: one more", branch="more")
    assert run(["pr", "open", "--body", "Because."]) == 0
    assert capsys.readouterr().out == "#1\n"
    assert run(["pr", "list", "--output", "json"]) == 0
    (item,) = json.loads(capsys.readouterr().out)
    assert (item["number"], item["branch"], item["title"], item["author"]) == (
        1,
        "more",
        "policy: one more",
        "Ada",
    )
    assert run(["pr", "approve", "1"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("approved #1 at ")
    assert "secure nothing" in err
    clone.git("checkout", "--quiet", "main")
    clone.write(
        "policies/other.yaml", "apiVersion: trueup.dev/v1\nkind: GatePolicy\nextends: dev\n# unrelated\n"
    )
    clone.push("merged since, and not what this one changes")
    assert run(["pr", "show", "1"]) == 0
    shown = capsys.readouterr().out
    assert "#1 policy: one more  open\n" in shown
    assert "approved  Ada\n" in shown
    assert "\nBecause.\n" in shown
    assert "--- /dev/null\n+++ b/policies/more.yaml\n" in shown
    assert "+extends: dev\n" in shown
    assert "unrelated" not in shown
    assert run(["pr", "merge", "1"]) == 0
    assert capsys.readouterr().out.startswith("merged #1 as ")
    assert run(["pr", "show", "1", "--no-diff"]) == 0
    assert "merged" in capsys.readouterr().out.splitlines()[0]


def test_a_pull_request_is_closed_with_a_reason(clone: Clone, capsys: Said) -> None:
    clone.push("something", branch="more")
    assert run(["pr", "open", "more", "--title", "Something"]) == 0
    assert run(["pr", "close", "1", "--reason", "not now"]) == 0
    assert run(["pr", "show", "1"]) == 0
    shown = capsys.readouterr().out
    assert "Something  closed\n" in shown
    assert "comment  not now" in shown
    assert run(["pr", "merge", "1"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def comments(capsys: Said) -> list[str]:
    assert run(["pr", "show", "1", "--output", "json"]) == 0
    (pull,) = json.loads(capsys.readouterr().out)
    return list(pull["comments"])


@pytest.mark.parametrize("about", ["admission", "plan"])
def test_what_a_change_means_is_one_comment_that_is_kept(clone: Clone, capsys: Said, about: str) -> None:
    clone.pin(FIRST)
    clone.push("version 1 by hand", branch="more")
    assert run(["pr", "open"]) == 0
    capsys.readouterr()
    assert run(["comment", "1", "--about", about]) == 0
    assert capsys.readouterr().out == "#1 says so now\n"
    (said,) = comments(capsys)
    assert said.endswith(f"\n\n<!-- trueup-{about} -->")
    assert "### `staging/digits`" in said
    assert "hold `rendered-edited`" in said if about == "plan" else "**Admission** · Not admissible" in said
    if about == "admission":
        assert run(["admit", "--output", "markdown"]) == 1
        assert capsys.readouterr().out.rstrip() == said.rpartition("\n\n")[0]
        assert run(["comment", "1"]) == 0
        assert capsys.readouterr().out == "#1 says so already\n"
        assert comments(capsys) == [said]
    clone.pin(SECOND)
    clone.push("version 2 by hand", branch="more")
    other = {"admission": "plan", "plan": "admission"}[about]
    for each in (about, other):
        assert run(["comment", "1", "--about", each]) == 0
    capsys.readouterr()
    changed, another = comments(capsys)
    assert changed != said
    assert changed.endswith(f"<!-- trueup-{about} -->")
    assert another.endswith(f"<!-- trueup-{other} -->")


def test_an_origin_elsewhere_is_refused_by_the_embedded_forge(clone: Clone, capsys: Said) -> None:
    clone.git("remote", "set-url", "origin", "https://git.example/models.git")
    assert run(["pr", "list"]) == 1
    assert (
        "that is no repository on this machine: https://git.example/models.git\nhint: "
        in capsys.readouterr().err
    )


# --- history ----------------------------------------------------------------------------------------------


@pytest.fixture
def released(clone: Clone, capsys: Said) -> Clone:
    """Version 1 by pull request, version 2 by a push, then back to 1 with 2 rejected."""
    clone.pin(FIRST)
    clone.push("version 1", branch="one")
    assert run(["pr", "open", "one"]) == 0
    assert run(["pr", "merge", "1"]) == 0
    clone.git("checkout", "--quiet", "main")
    clone.git("pull", "--quiet", "origin", "main")
    clone.pin(SECOND)
    clone.push("version 2")
    entry = Rejected(digest=TWO, version="2", reason="unhealthy", since=datetime(2100, 1, 1, tzinfo=UTC))
    clone.pin(FIRST.model_copy(update={"rejected": (entry,)}))
    clone.push("back to version 1")
    capsys.readouterr()
    return clone


def test_history_tells_version_result_and_pull_request(released: Clone, capsys: Said) -> None:
    assert run(["history", "staging/digits", "--output", "json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    told = [(entry["version"], entry["result"], entry["pullRequest"]) for entry in entries]
    assert told == [("1", "verified", None), ("2", "failed", None), ("1", "verified", 1)]
    assert entries[1]["reason"] == "unhealthy"
    assert run(["history", "staging/digits"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["SINCE", "VERSION", "RESULT"]
    assert len(lines) == 4


def test_history_at_an_instant(released: Clone, capsys: Said) -> None:
    assert run(["history", "staging/digits", "--at", "2099-01-01T00:00:00Z"]) == 0
    facts = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[2:])
    assert facts["version"] == f"v1  {ONE}"
    assert facts["result"] == "verified 2026-03-01 12:00Z"
    assert run(["history", "staging/digits", "--at", "2001-01-01T00:00:00Z"]) == 0
    assert capsys.readouterr().out == "staging/digits had no release at 2001-01-01 00:00Z.\n"
    assert run(["history", "staging/digits", "--at", "yesterday"]) == 1
    assert capsys.readouterr().err.startswith("error: 'yesterday' is not an instant\nhint: ")
    for local in ("2026-03-01T12:00:00", "2026-03-01"):
        assert run(["history", "staging/digits", "--at", local]) == 1
        said = f"error: '{local}' has no time zone\nhint: write it as in 2026-03-01T12:00Z\n"
        assert capsys.readouterr().err == said


def test_history_of_what_never_was(clone: Clone, capsys: Said) -> None:
    assert run(["history", "production/digits"]) == 0
    assert capsys.readouterr().out == "production/digits has never had a release on main.\n"


@pytest.mark.parametrize("slip", ["digits/production", "prod/digits"])
def test_history_of_what_main_does_not_have(slip: str, clone: Clone, capsys: Said) -> None:
    assert run(["history", slip]) == 1
    assert capsys.readouterr().err == (
        f"error: main has no {slip}\n"
        "hint: it has production/digits, production/flight-delay, staging/digits, staging/flight-delay\n"
    )


def test_history_of_a_release_whose_evidence_does_not_parse(released: Clone, capsys: Said) -> None:
    released.write(evidence_path("staging", "digits"), "{}")
    released.pin(FIRST.model_copy(update={"image": f"trueup/server@sha256:{'3' * 64}"}))
    released.push("evidence broken by hand")
    assert run(["history", "staging/digits", "--output", "json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 4
    assert "digits.evidence.json at " in err


def test_history_skips_what_does_not_parse_and_says_so(released: Clone, capsys: Said) -> None:
    released.write(release_path("staging", "digits"), "kind: Release\n")
    released.push("broken by hand")
    assert run(["history", "staging/digits", "--output", "json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 3
    assert "does not parse" in err


# --- the platform -----------------------------------------------------------------------------------------


def test_a_platform_that_does_not_parse_connects_to_nothing(clone: Clone, capsys: Said) -> None:
    clone.write(
        "environments/platform.yaml", "apiVersion: trueup.dev/v1\nkind: Platform\nengine: {type: cloud}\n"
    )
    clone.push("platform: the cloud")
    assert run(["history", "staging/digits"]) == 1
    assert capsys.readouterr().err.startswith("error: environments/platform.yaml:3: ")


def test_where_a_token_is_sent_only_main_says(
    clone: Clone, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reconciler.cli.session import Session

    text = (
        "apiVersion: trueup.dev/v1\nkind: Platform\n"
        "forge: {type: gitea, url: 'https://HOST', repository: ml/models, token: {env: FORGE_TOKEN}}\n"
    )
    clone.write("environments/platform.yaml", text.replace("HOST", "git.example"))
    clone.push("the forge")
    clone.write("environments/platform.yaml", text.replace("HOST", "evil.example"))
    assert run(["pr", "list"]) == 1
    assert capsys.readouterr().err.startswith(
        "error: environments/platform.yaml: the secret $TRUEUP_TOKEN is not set\nhint: make one in your account"
    )
    monkeypatch.setenv("TRUEUP_TOKEN", "adas")
    assert getattr(Session(clone.root).forge, "url", "") == "https://git.example"


def test_a_repository_by_its_address_needs_no_clone(
    released: Clone, capsys: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["history", "staging/digits", "--output", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("TRUEUP_REPOSITORY", str(released.origin))
    monkeypatch.setenv("TRUEUP_HOME", str(tmp_path / "home"))
    assert run(["history", "staging/digits", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == told
    assert run(["pr", "list"]) == 0
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert run(["validate"]) == 1
    assert "needs a clone" in capsys.readouterr().err


def test_a_registry_whose_variable_is_not_set(
    clone: Clone, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OUR_MLFLOW", raising=False)
    clone.write(
        "environments/platform.yaml",
        "apiVersion: trueup.dev/v1\nkind: Platform\nregistries: {default: {trackingUriEnv: OUR_MLFLOW}}\n",
    )
    clone.push("platform: our registry")
    assert run(["history", "staging/digits"]) == 1
    assert "$OUR_MLFLOW, which is not set\nhint: export OUR_MLFLOW=" in capsys.readouterr().err


def test_steps_get_no_secret_of_the_shell(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconciler.bootstrap.clusters import step_environment
    from reconciler.bootstrap.repository import open_repository
    from reconciler.core.platform import Platform

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    environment = step_environment(open_repository(clone.root), Platform(kind="Platform"))
    assert "s3cr3t" not in environment.values()
    assert environment["MLFLOW_TRACKING_URI"] == f"sqlite:///{clone.root}/.trueup/mlflow.db"
    assert environment["TRUEUP_HOME"] == f"{clone.root}/.trueup"
    assert environment["DO_NOT_TRACK"] == "1"


def test_local_stop_where_nothing_runs(clone: Clone, capsys: Said) -> None:
    assert run(["local", "stop"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert str(clone.root / ".trueup") in err


def test_logs_of_a_run_that_is_not_there(clone: Clone, capsys: Said) -> None:
    assert run(["logs", "train-digits-0-1"]) == 1
    said = capsys.readouterr().err
    assert "no run is named 'train-digits-0-1'\nhint: there is no run yet; " in said
    assert "reconcile logs ENV/MODEL" in said
    assert run(["logs", "nowhere/digits"]) == 1
    assert (
        "there is no such environment\nhint: the environments are production, staging"
        in capsys.readouterr().err
    )


def test_errors_of_a_repository_without_origin(clone: Clone, capsys: Said) -> None:
    clone.git("remote", "remove", "origin")
    assert run(["history", "staging/digits"]) == 1
    assert "has no remote named origin" in capsys.readouterr().err
