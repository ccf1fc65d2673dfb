"""Whose credentials go where: secrets, the forge of origin, people, and a repository without a clone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.adapters.forges.gitea import GiteaForge
from reconciler.bootstrap.forges import (
    by_token,
    connect_as_person,
    connect_forge,
    embedded_forge,
    identity,
    remote_forge,
)
from reconciler.bootstrap.process import PERSONS_TOKEN, secret
from reconciler.bootstrap.repository import Repository, open_repository
from reconciler.bootstrap.sources import folder_source, forge_of_origin, platform_here
from reconciler.core.errors import Terminal
from reconciler.core.platform import ForgeGitea, ForgeGitHub, Secret

FORGE = ForgeGitea(
    type="gitea", url="https://git.example", repository="ml/models", token=Secret(env="FORGE_TOKEN")
)


def clock() -> datetime:
    return datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell with trueup's secret and none of a person's."""
    for name in ("TRUEUP_TOKEN", "TRUEUP_PLATFORM", "TRUEUP_REPOSITORY", "TRUEUP_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FORGE_TOKEN", "ours")


def platform(folder: Path, forge: str = "", name: str = "environments/platform.yaml") -> Path:
    gitea = "{type: gitea, url: 'https://git.example', repository: ml/models, token: {env: FORGE_TOKEN}}"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    text = f"apiVersion: trueup.dev/v1\nkind: Platform\nforge: {forge or gitea}\n"
    (folder / name).write_text(text)
    return folder / name


# --- secrets ----------------------------------------------------------------------------------------------


def test_a_secret_is_read_at_each_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Secret(file=str(tmp_path / "token"))
    for value in ("one", "two"):
        (tmp_path / "token").write_text(f"{value}\n")
        monkeypatch.setenv("FORGE_TOKEN", value)
        assert secret(place) == secret(Secret(env="FORGE_TOKEN")) == value


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"])
def test_a_file_without_a_secret(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(Terminal, match=r"the secret /.*token (is empty|cannot be read: .*)\. hint: mount it"):
        secret(Secret(file=str(tmp_path / "token")))


@pytest.mark.parametrize("value", ["", "  "])
def test_a_variable_without_a_secret(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("FORGE_TOKEN", value)
    with pytest.raises(Terminal, match=r"the secret \$FORGE_TOKEN is not set\. hint: export FORGE_TOKEN"):
        connect_forge(Repository(None, "https://git.example/ml/models", ""), FORGE, clock)


# --- the forge --------------------------------------------------------------------------------------------


def test_the_platform_names_the_forge(tmp_path: Path) -> None:
    repository = Repository(tmp_path, "git@git.example:ml/models.git", "Ada")
    forge = connect_forge(repository, FORGE, clock)
    assert isinstance(forge, GiteaForge)
    assert (forge.remote, forge.credentials.token()) == ("https://git.example/ml/models.git", "ours")
    assert forge.credentials.token_from == "$FORGE_TOKEN"


def test_people_act_by_their_own_token_and_never_by_trueups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository(tmp_path, "git@git.example:ml/models.git", "Ada")
    with pytest.raises(Terminal, match=r"the secret \$TRUEUP_TOKEN is not set.*hint: make one in your account"):
        connect_as_person(repository, FORGE, clock)
    monkeypatch.setenv("TRUEUP_TOKEN", "adas")
    forge = connect_as_person(repository, FORGE, clock)
    assert isinstance(forge, GiteaForge)
    assert (forge.credentials.token(), forge.credentials.token_from) == ("adas", "$TRUEUP_TOKEN")


# --- who fetches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "ours"),
    [
        ("https://git.example/ml/models.git", True),
        ("https://git.example/ml/models", True),
        ("https://git.example:443/ML/Models/", True),
        ("https://ada@git.example/ml/models.git", True),
        ("http://git.example/ml/models.git", False),
        ("https://git.example:8443/ml/models.git", False),
        ("https://git.example.evil.example/ml/models.git", False),
        ("https://git.example@evil.example/ml/models.git", False),
        ("https://git.example/ml/other.git", False),
        ("git@git.example:ml/models.git", False),
        ("ssh://git@git.example/ml/models.git", False),
        ("", False),
    ],
)
def test_the_token_goes_to_the_address_of_its_forge_only(tmp_path: Path, origin: str, ours: bool) -> None:
    platform(tmp_path)
    forge = forge_of_origin(Repository(tmp_path, origin, ""))
    assert (forge is not None) == ours
    assert forge is None or forge.remote == "https://git.example/ml/models.git"


def test_a_working_tree_that_names_another_forge_gets_no_token(tmp_path: Path) -> None:
    evil = "{type: gitea, url: 'https://evil.example', repository: ml/models, token: {env: FORGE_TOKEN}}"
    platform(tmp_path, evil)
    assert forge_of_origin(Repository(tmp_path, "https://git.example/ml/models.git", "")) is None


def test_who_has_no_secret_of_trueups_fetches_as_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform(tmp_path)
    repository = Repository(tmp_path, "https://git.example/ml/models.git", "Ada")
    monkeypatch.setenv("TRUEUP_TOKEN", "adas")
    forge = forge_of_origin(repository)
    assert forge is not None
    assert forge.credentials.token() == "ours"
    monkeypatch.delenv("FORGE_TOKEN")
    forge = forge_of_origin(repository)
    assert forge is not None
    assert (forge.credentials.token(), forge.credentials.token_from) == ("adas", "$TRUEUP_TOKEN")
    monkeypatch.delenv("TRUEUP_TOKEN")
    assert forge_of_origin(repository) is None


def test_an_app_is_replaced_by_a_persons_token() -> None:
    app = {"id": 1, "installation": 2, "privateKey": {"file": "/run/key"}}
    named = ForgeGitHub.model_validate({"type": "github", "repository": "ml/models", "app": app})
    assert identity(named) == Secret(file="/run/key")
    theirs = by_token(named, PERSONS_TOKEN)
    assert isinstance(theirs, ForgeGitHub)
    assert (theirs.app, theirs.token) == (None, PERSONS_TOKEN)
    assert identity(theirs) == PERSONS_TOKEN


def test_github_is_connected_as_an_app_and_by_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    app = {"id": 1, "installation": 2, "privateKey": {"env": "APP_KEY"}}
    as_app = ForgeGitHub.model_validate({"type": "github", "repository": "ml/models", "app": app})
    with pytest.raises(Terminal, match=r"the secret \$APP_KEY is not set"):
        remote_forge(as_app)
    monkeypatch.setenv("APP_KEY", "no key, and nothing is asked of it yet")
    forge = remote_forge(as_app)
    assert (forge.remote, forge.credentials.token_from) == ("https://github.com/ml/models.git", "$APP_KEY")
    with pytest.raises(Terminal, match=r"\$APP_KEY holds no private key of an App"):
        forge.credentials.token()
    monkeypatch.setenv("TRUEUP_TOKEN", "adas")
    person = remote_forge(by_token(as_app, PERSONS_TOKEN))
    assert person.credentials.token() == "adas"


# --- the Platform before the repository -------------------------------------------------------------------


def test_a_named_platform_comes_before_the_working_trees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform(tmp_path, "{type: embedded}")
    repository = Repository(tmp_path, "https://git.example/ml/models.git", "")
    assert forge_of_origin(repository) is None
    monkeypatch.setenv("TRUEUP_PLATFORM", str(platform(tmp_path, name="mounted.yaml")))
    assert forge_of_origin(repository) is not None
    assert forge_of_origin(repository._replace(clone=None)) is not None


def test_without_any_platform_git_fetches_as_it_is_set_up(tmp_path: Path) -> None:
    for clone in (None, tmp_path):
        assert forge_of_origin(Repository(clone, "https://git.example/ml/models.git", "")) is None


def test_a_link_in_the_working_tree_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("do-not-quote-me\n")
    link = platform(tmp_path)
    link.unlink()
    link.symlink_to(tmp_path / "secret")
    assert platform_here(Repository(tmp_path, "https://git.example/ml/models.git", "")) is None


def test_an_origin_with_a_password_is_not_shown(tmp_path: Path) -> None:
    repository = Repository(tmp_path, "https://ci:planted-secret@git.example/ml/models.git", "")
    with pytest.raises(Terminal, match=r"no repository on this machine: https://git\.example/ml") as told:
        embedded_forge(repository, clock)
    assert "planted-secret" not in str(told.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "platform.yaml: cannot be read: No such file or directory. hint: TRUEUP_PLATFORM names a copy"),
        ("kind: [", r"platform.yaml:1: is not valid YAML"),
        ("apiVersion: trueup.dev/v1\nkind: Platform\nforge: {type: gita}\n", r"platform.yaml:3: "),
    ],
)
def test_a_named_platform_that_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, told: str
) -> None:
    if content is not None:
        (tmp_path / "platform.yaml").write_text(content)
    monkeypatch.setenv("TRUEUP_PLATFORM", str(tmp_path / "platform.yaml"))
    with pytest.raises(Terminal, match=told):
        forge_of_origin(Repository(None, "https://git.example/ml/models.git", ""))


# --- without a clone --------------------------------------------------------------------------------------


def test_a_repository_by_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEUP_REPOSITORY", "https://git.example/ml/models.git")
    repository = open_repository(tmp_path)
    assert (repository.clone, repository.origin) == (None, "https://git.example/ml/models.git")
    with pytest.raises(Terminal, match=r"needs a clone.* hint: run it in a clone"):
        folder_source(repository)
    with pytest.raises(Terminal, match="hint: set TRUEUP_HOME"):
        _ = repository.home
    monkeypatch.setenv("TRUEUP_HOME", str(tmp_path / "home"))
    assert repository.home == tmp_path / "home"
