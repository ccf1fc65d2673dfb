"""A history of 13 versions: promoted, blocked, rolled back, the policies tightened midway.

`verify` works out every release again, byte for byte, and names each tampering; `policy simulate` says what
arithmetic says.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.evidence_folder import EvidenceFolder
from reconciler.cli.comment import changed_policies
from reconciler.cli.history import instant_of
from reconciler.cli.main import run
from reconciler.cli.session import Session
from reconciler.core.base import Subject
from reconciler.core.documents import evidence_path, release_path
from reconciler.core.errors import Retryable
from reconciler.core.evidence import CATALOGUE
from reconciler.core.proof import Proof
from reconciler.core.simulation import Simulation
from reconciler.load import load
from reconciler.past import OneModel, pins
from reconciler.planning import verification
from reconciler.ports import Blob
from reconciler.replay import proofs, simulate
from tests.doubles.documents import model
from tests.doubles.history import FIRST, LATER, Rules, history, reckoned, verdict
from tests.doubles.repository import MemoryRepository, Stored, _oid
from tests.doubles.world import World

STAGING, PRODUCTION = (Subject(environment=name, model="digits") for name in ("staging", "production"))
EVIDENCE = evidence_path("production", "digits")


@pytest.fixture
def world() -> World:
    return history()


def all_proofs(world: World, subject: Subject, *, offline: bool = False) -> list[Proof]:
    main = load(world.repository, world.repository.head())
    registries = None if offline else {"default": world.registry}
    return list(proofs(world.repository, subject, main, registries))


def current(world: World, *, offline: bool = False) -> Proof:
    return all_proofs(world, PRODUCTION, offline=offline)[0]


def against(proof: Proof) -> list[tuple[str, str, str]]:
    return [(s.what, s.standing, s.said) for s in proof.steps if s.standing != "proven"]


# --- verify -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize("subject", [STAGING, PRODUCTION], ids=str)
def test_every_release_is_proven(world: World, subject: Subject, offline: bool) -> None:
    found = all_proofs(world, subject, offline=offline)
    released = [r.version for r in reckoned() if r.released and r.environment == subject.environment]
    rolled_back = [7] if subject is PRODUCTION else []
    assert sorted(int(proof.version) for proof in found) == sorted(released + rolled_back)
    assert [against(proof) for proof in found] == [[]] * len(found)
    promoted = [proof for proof in found if proof.grounds == "promotion"]
    for proof in promoted:
        said = {step.what for step in proof.steps}
        assert {"evidence file", "evidence of evaluate", "policy", "manifests", "inputs", "verdict"} <= said
        assert ("mark of evaluate" in said) is not offline
        assert {gate.verdict for gate in proof.gates} <= {"pass", "review"}
    assert [proof.grounds for proof in found if proof not in promoted] == ["rollback"] * len(rolled_back)


def test_a_policy_tightened_later_does_not_contradict_what_was_let_in_before(world: World) -> None:
    (fourth,) = [proof for proof in all_proofs(world, STAGING) if proof.version == "4"]
    assert fourth.standing == "proven"
    (gate,) = [gate for gate in fourth.gates if gate.gate == "not-worse"]
    assert gate.asked == "drop <= 0.02 against the champion"


def rewritten(repository: MemoryRepository, path: str, change: Callable[[str], str], *, only: str = "") -> None:
    """As if Git's history said otherwise: a file, changed in every commit that has it so, or in one."""
    before = repository.text(path, only or repository.main)
    text = change(before).encode()
    assert text != before.encode()
    oid = _oid(b"blob %d\0" % len(text) + text)
    repository.contents[oid] = text
    for commit, stored in repository.commits.items():
        if (only in ("", commit)) and stored.files.get(path) == before.encode():
            files, blobs = {**stored.files, path: text}, {**stored.blobs, path: Blob("100644", oid)}
            repository.commits[commit] = Stored(stored.commit, files, blobs)


def edited(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def _copy_edited(world: World) -> None:
    text = world.repository.text(EVIDENCE)
    world.commit({EVIDENCE: edited(text, ("0.957", "0.999"))}, subject="a better number")


def _copy_edited_in_the_merge(world: World) -> None:
    rewritten(world.repository, EVIDENCE, lambda text: edited(text, ("0.957", "0.999")))


def _copy_written_otherwise(world: World) -> None:
    rewritten(world.repository, EVIDENCE, lambda text: json.dumps(json.loads(text)) + "\n")


def _policy_edited(world: World) -> None:
    commit = next(pins(world.repository, PRODUCTION)).commit
    base = world.repository.commits[commit].commit.parent
    policy = Rules(drop=10, floor=930).files()["policies/production.yaml"]
    rewritten(world.repository, "policies/production.yaml", lambda _: policy, only=base)


def _policy_tightened_in_the_past(world: World) -> None:
    commit = next(pins(world.repository, PRODUCTION)).commit
    base = world.repository.commits[commit].commit.parent
    policy = Rules(drop=10, floor=990).files()["policies/production.yaml"]
    rewritten(world.repository, "policies/production.yaml", lambda _: policy, only=base)


def _manifest_edited(world: World) -> None:
    path = "environments/production/rendered/digits/deployment.yaml"
    rewritten(world.repository, path, lambda text: edited(text, ("replicas: 1", "replicas: 9")))


def _record_edited(world: World) -> None:
    path = release_path("production", "digits")
    proof = current(world)
    text = edited(world.repository.text(path), (proof.judged_at.isoformat()[:16], "2026-01-01T00:00"))
    world.commit({path: text}, subject="dated back")


def _mark_missing(world: World) -> None:
    registered = world.registry.models["digits"]
    version = registered.versions[-1]
    tags = {name: value for name, value in version.tags.items() if ".evaluate." not in name}
    left = (*registered.versions[:-1], version.model_copy(update={"tags": tags}))
    world.registry.models["digits"] = registered.model_copy(update={"versions": left})


def _original_edited(world: World) -> None:
    for uri in _originals(world):
        world.registry.documents[uri] = world.registry.documents[uri].replace(b"0.957", b"0.999")


def _originals(world: World) -> list[str]:
    sources = json.loads(world.repository.text(EVIDENCE))["sources"]
    return [sources["evaluate"].rpartition("@")[0]]


def _another_digest(world: World) -> None:
    world.registry.set_tag("digits", "13", "trueup.digest", f"sha256:{'f' * 64}")


TAMPERED: dict[str, tuple[Callable[[World], None], bool, set[tuple[str, str]]]] = {
    # what was done, whether Git alone tells it, and what is said of it
    "evidence edited on main": (
        _copy_edited,
        True,
        {("evidence file", "main's evidence file is not the one that came with the pin")},
    ),
    "evidence edited in the merge": (
        _copy_edited_in_the_merge,
        True,
        {
            ("evidence file", "which is recorded"),
            ("evidence of evaluate", "which is recorded"),
            ("inputs", "which is recorded"),
            ("mark of evaluate", "the original is another than the copy in Git"),
        },
    ),
    "evidence in other bytes": (
        _copy_written_otherwise,
        True,
        {("evidence file", "its bytes are not those that trueup writes")},
    ),
    "policy loosened before the merge": (
        _policy_edited,
        True,
        {("policy", "digest of production before the commit,"), ("inputs", "which is recorded")},
    ),
    "policy tightened before the merge": (
        _policy_tightened_in_the_past,
        True,
        {
            ("policy", "digest of production before the commit,"),
            ("inputs", "which is recorded"),
            ("verdict", "it is blocked by floor"),
        },
    ),
    "manifest edited in the merge": (
        _manifest_edited,
        True,
        {
            ("manifests", "which is recorded"),
            ("manifests", "are not what this Release renders to"),
            ("inputs", "recorded"),
        },
    ),
    "record edited": (_record_edited, True, {("release", "it was edited since")}),
    "mark missing": (
        _mark_missing,
        False,
        {("mark of evaluate", "version 13 carries no mark that vouches for this evidence")},
    ),
    "original edited": (
        _original_edited,
        False,
        {("mark of evaluate", "the original is another than the copy in Git")},
    ),
    "another version under the number": (_another_digest, False, {("version", "which is recorded")}),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_what_was_tampered_with_is_named(world: World, how: str) -> None:
    tamper, in_git, said = TAMPERED[how]
    tamper(world)
    proof = current(world)
    assert proof.standing == "contradicted"
    wrong = [(step.what, step.said) for step in proof.steps if step.standing == "contradicted"]
    told = {(what, text) for what, text in said for name, found in wrong if what == name and text in found}
    assert told == said
    assert {what for what, _ in wrong} == {what for what, _ in said}
    assert current(world, offline=True).standing == ("contradicted" if in_git else "proven")


def test_what_the_registry_has_lost_makes_nothing_untrue(world: World) -> None:
    for uri in _originals(world):
        del world.registry.documents[uri]
    proof = current(world)
    assert proof.standing == "proven"
    assert "the copy in Git is what was marked" in proof.steps[-2].said
    registered = world.registry.models["digits"]
    fewer = registered.model_copy(update={"versions": registered.versions[:-1]})
    world.registry.models["digits"] = fewer
    assert against(current(world)) == [
        ("version", "unknown", "version 13 of digits is no longer in the registry")
    ]


def test_what_cannot_be_told_is_no_contradiction(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(verification, "JUDGE", "2")
        assert against(current(world)) == [
            ("verdict", "unknown", "was given by version 1 of the judge, and this is version 2")
        ]
    with monkeypatch.context() as patched:
        newer = CATALOGUE["evaluate"]._replace(recipe="999")
        patched.setitem(CATALOGUE, "evaluate", newer)
        ((what, standing, said),) = against(current(world, offline=True))
        assert (what, standing) == ("verdict", "unknown")
        assert said.endswith("and this version knows 999")

    def silent() -> Any:
        raise Retryable("no answer", where="registry", hint="see whether it is up")

    monkeypatch.setattr(world.registry, "sweep", silent)
    ((what, standing, said),) = against(current(world))
    assert (what, standing, "did not answer" in said) == ("registry", "unknown", True)


# --- simulate ---------------------------------------------------------------------------------------------


def simulated(world: World, old: Rules, new: Rules, **options: Any) -> Simulation:
    repository = world.repository
    main = load(repository, repository.head())

    def side(name: str, rules: Rules) -> tuple[str, Any]:
        commit = repository.commit(
            rules.files(), at=world.clock.now, author="Ada", subject=name, onto=repository.main
        )
        return name, load(repository, commit)

    readers = {"default": world.registry}
    return simulate(repository, readers, side("old", old), side("new", new), main=main, **options)


def expected(old: Rules, new: Rules) -> list[tuple[Any, ...]]:
    outcomes = {("pass", "block"): "blocked", ("review", "block"): "blocked"}
    outcomes |= {("block", "pass"): "let-through", ("block", "review"): "let-through"}
    found = []
    for judged in reckoned():
        one, other = (
            verdict(judged.environment, judged.version, judged.champion, rules) for rules in (old, new)
        )
        outcome = outcomes.get((one, other), "same")
        champion = str(judged.champion or "")
        found.append((judged.environment, str(judged.version), champion, judged.released, one, other, outcome))
    return sorted(found)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (LATER, FIRST),
        (FIRST, LATER),
        (LATER, Rules(drop=4, floor=955)),
        (Rules(drop=0, floor=999), Rules(drop=60, floor=900)),
        (LATER, Rules(drop=10, floor=930)),
    ],
)
def test_it_says_what_arithmetic_says(world: World, old: Rules, new: Rules) -> None:
    told = simulated(world, old, new)
    asked = {item.environment for item in told.asked if item.differs}
    found = [
        (c.subject.environment, c.version, c.champion, c.released, c.old, c.new, c.outcome)
        for c in told.candidates
    ]
    assert sorted(found) == [row for row in expected(old, new) if row[0] in asked]
    assert asked == ({"production"} if old.drop == new.drop else {"staging", "production"})
    assert told.left_out == ()
    assert {row[-1] for row in found} > {"same"}


def test_what_nobody_measured_is_told_apart(world: World) -> None:
    gate = '  - {name: slow, metric: evaluate.log-loss, op: "<=", threshold: 0.3}\n'
    files = LATER.files()
    files["policies/staging.yaml"] += gate
    repository = world.repository
    commit = repository.commit(files, at=world.clock.now, author="Ada", subject="x", onto=repository.main)
    main = load(repository, repository.head())
    new = load(repository, commit)
    told = simulate(repository, {"default": world.registry}, ("main", main), ("new", new), main=main)
    assert [item.added for item in told.asked] == [("slow",), ("slow",)]
    assert {(c.old, c.outcome) for c in told.candidates} >= {("pass", "not-measured"), ("block", "same")}
    assert {c.unmeasured for c in told.candidates} == {("evaluate.log-loss",)}


def test_it_reads_only_evidence_that_no_release_has(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    read = world.registry.evidence
    monkeypatch.setattr(world.registry, "evidence", lambda uri: asked.append(uri) or read(uri))
    simulated(world, LATER, FIRST, environment="staging")
    copies = {
        uri
        for history in pins(world.repository, STAGING)
        if history.introduced
        for source in history.introduced.bundles["staging/digits"].sources.values()
        for uri in [source.rpartition("@")[0]]
    }
    assert len(asked) == len(set(asked))
    assert set(asked) == world.registry.documents.keys() - copies


def test_evidence_is_read_once_in_a_lifetime(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = EvidenceFolder(tmp_path / "evidence")
    first = simulated(world, LATER, FIRST, kept=kept)
    damaged, *_ = sorted((tmp_path / "evidence").iterdir())
    damaged.write_bytes(b"{}")
    asked: list[str] = []
    read = world.registry.evidence
    monkeypatch.setattr(world.registry, "evidence", lambda uri: asked.append(uri) or read(uri))
    assert simulated(world, LATER, FIRST, kept=kept) == first
    assert len(asked) == 1
    assert simulated(world, LATER, FIRST, kept=EvidenceFolder(Path("/dev/null/none"))) == first


def test_it_is_bounded_and_says_what_it_left_out(world: World) -> None:
    told = simulated(world, LATER, FIRST, environment="staging", limit=3)
    assert told.left_out == (
        "staging/digits: 10 versions older than the newest 3",
        "staging/digits: 6 changes of its Release older than the newest 3",
    )
    assert [c.version for c in told.candidates] == ["13", "12", "11", "10"]


def test_a_past_is_read_without_the_files_of_other_models(world: World) -> None:
    world.commit(model("spam", "staging") | {"models/digits/data/notes.yaml": "a: 1\n"})
    world.commit({"environments/staging/releases/spam.yaml": "kind: [", "policies/tests/x.yaml": "cases: ["})
    state = load(OneModel(world.repository, "digits"), world.repository.head())
    assert (state.models.keys(), state.problems) == ({"digits"}, ())
    assert state.releases.keys() == {"staging/digits", "production/digits"}
    assert [proof.standing for proof in all_proofs(world, STAGING)] == ["proven"] * 9


# --- the commands -----------------------------------------------------------------------------------------


@pytest.fixture
def clone(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same history in a real repository with an origin, and the registry beside it."""
    origin, root = tmp_path / "models.git", tmp_path / "models"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(origin)], check=True)
    subprocess.run(["git", "fast-import", "--quiet"], cwd=origin, input=stream(world.repository), check=True)
    subprocess.run(["git", "clone", "--quiet", str(origin), str(root)], check=True)
    monkeypatch.setattr("reconciler.adapters.mlflow_registry.MlflowRegistry", lambda _: world.registry)
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(root)
    return root


def stream(repository: MemoryRepository) -> bytes:
    """Main's first parents, oldest first, in the words of git-fast-import."""
    said: list[bytes] = []
    for number, commit in enumerate(reversed(list(repository._main())), start=1):
        who = b"Ada <ada@example.org> %d +0000" % int(commit.at.timestamp())
        said.append(b"commit refs/heads/main\nmark :%d\ncommitter %s\ndata 1\nx\n" % (number, who))
        said.append((b"from :%d\n" % (number - 1) if number > 1 else b"") + b"deleteall\n")
        for path, content in repository.commits[commit.oid].files.items():
            said.append(b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(content), content))
    return b"".join(said)


def test_the_commands_on_a_real_repository(
    world: World, clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify", "production/digits"]) == 0
    assert "production/digits: version 13, a promotion" in capsys.readouterr().out
    assert run(["verify", "production/digits", "--all", "--offline", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [proof["standing"] for proof in told] == ["proven"] * 8
    assert run(["verify", "staging/digits", "--at", "2026-03-05T12:00:00Z", "--offline"]) == 0
    assert "staging/digits: version 4," in capsys.readouterr().out
    assert run(["verify", "staging/digits", "--at", "2020-01-01T00:00:00Z"]) == 1
    assert "staging/digits had no release then" in capsys.readouterr().err
    assert run(["verify", "staging/digits", "--version", "4", "--offline"]) == 0
    assert "staging/digits: version 4," in capsys.readouterr().out
    assert run(["verify", "staging/digits", "--version", "99", "--offline"]) == 1
    assert "staging/digits has no release of version 99" in capsys.readouterr().err
    assert run(["verify", "staging/digits", "--version", "4", "--all"]) == 1
    assert "goes without the others" in capsys.readouterr().err
    assert run(["verify", "production/none"]) == 1
    assert "main has no production/none" in capsys.readouterr().err
    last = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    removal = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "--quiet", "-m", "x"]
    subprocess.run(["git", "rm", "--quiet", release_path("staging", "digits")], check=True)
    subprocess.run(removal, check=True)
    subprocess.run(["git", "push", "--quiet", "origin", "main"], check=True)
    assert run(["verify", "staging/digits", "--offline"]) == 1
    assert "staging/digits has no release" in capsys.readouterr().err
    assert run(["verify", "staging/digits", "--at", "2026-03-05T12:00:00Z", "--offline"]) == 0
    assert run(["verify", "staging/digits", "--all", "--offline"]) == 0
    capsys.readouterr()
    subprocess.run(["git", "push", "--quiet", "--force", "origin", f"{last.strip()}:main"], check=True)
    versions = world.registry.models["digits"].versions
    _mark_missing(world)
    assert run(["verify", "production/digits"]) == 1
    assert "carries no mark that vouches for this evidence" in capsys.readouterr().out
    world.registry.models["digits"] = world.registry.models["digits"].model_copy(
        update={"versions": versions[:-1]}
    )
    assert run(["verify", "production/digits"]) == 2
    assert "is no longer in the registry" in capsys.readouterr().out
    assert run(["verify", "production/digits", "--all"]) == 2


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00+00:00"),
        ("2026-03-01T12:00Z", "2026-03-01T12:00:59.999999+00:00"),
        ("2026-03-01 12:00+01:00", "2026-03-01T11:00:59.999999+00:00"),
    ],
)
def test_a_minute_is_its_end(text: str, instant: str) -> None:
    assert instant_of(text) == datetime.fromisoformat(instant)


def test_simulate_on_a_real_repository(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "simulate"]) == 0
    assert "asks the same, so nothing of it was judged again" in capsys.readouterr().out
    for path, text in FIRST.files().items():
        (clone / path).write_text(text)
    assert run(["policy", "simulate", "--environment", "staging"]) == 0
    said = capsys.readouterr().out
    assert "(old) and of the working tree (new)" in said
    assert "staging: policy staging: not-worse changed" in said
    assert "staging: 13 past candidates: 2 would have been let through, 11 the same.\n" in said
    assert run(["policy", "simulate", "--against", "HEAD", "-o", "markdown"]) == 0
    said = capsys.readouterr().out
    assert "### Past candidates by the policies of `HEAD at " in said
    assert "| would have been let through | not-worse block -> pass (" in said
    assert run(["policy", "simulate", "-o", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["candidates"]) == len(reckoned())
    assert run(["policy", "simulate", "--environment", "prod"]) == 1
    assert "there is no environment prod" in capsys.readouterr().err


def test_the_plans_comment_carries_it_where_policies_change(clone: Path) -> None:
    assert changed_policies(Session(clone)) == ""
    for path, text in FIRST.files().items():
        (clone / path).write_text(text)
    said = changed_policies(Session(clone))
    assert said.startswith("\n### Past candidates by the policies of `main at ")
    assert "- `staging`: 13 past candidates: 2 would have been let through, 11 the same." in said
