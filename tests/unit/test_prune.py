"""What `reconcile prune` never lists, whatever Git and the systems say; its report; and what it refuses."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.cli.main import run
from reconciler.core.base import Subject
from reconciler.core.observed import (
    Archived,
    Gap,
    RegistryRun,
)
from reconciler.core.plan import Hold, Outcome
from reconciler.core.pruning import Held, Kept, Listing, Removal
from reconciler.planning.candidates import candidate
from reconciler.planning.prune import Details, list_prunable
from reconciler.planning.rollback import targets
from reconciler.planning.view import View
from reconciler.report import prune as report
from reconciler.report.layout import plain
from tests.strategies import NOON, VERSIONS, World, digest_of_version, outlived_worlds, releases


@st.composite
def pruned_worlds(draw: st.DrawFn) -> tuple[World, Details]:
    """Where next to everything is archived and no retention is left; with histories and runs."""
    desired, observed = draw(outlived_worlds(archived=True))
    past: dict[str, tuple[Held, ...] | Gap] = {}
    for environment in desired.environments:
        for model in desired.models:
            subject = Subject(environment=environment, model=model)
            earlier = [draw(releases(desired, subject)) for _ in range(draw(st.integers(0, 2)))]
            release = desired.releases.get(str(subject))
            found = [Held(release=release, since=NOON)] if release else []
            past[str(subject)] = (*found, *(Held(release=r, since=NOON, until=NOON) for r in earlier))
    runs = tuple(
        RegistryRun(run_id=f"measured-{n}", candidate=f"{m}/{n}") for m in desired.models for n in VERSIONS
    )
    details = Details(past, {("default", model): runs for model in desired.models})
    return World(desired, observed), details


@given(pruned_worlds())
def test_neither_a_pin_nor_what_may_be_next_or_again_nor_the_evidence_of_these_is_ever_listed(
    drawn: tuple[World, Details],
) -> None:
    (desired, observed), details = drawn
    view = View(desired, observed)
    listing = list_prunable(view, details)
    for removal in listing.removals:
        needed, evidence = _needed(view, removal.model, details)
        assert removal.version not in needed
        assert not evidence.intersection(removal.runs)
        assert removal.archived is not None


def _needed(view: View, model: str, details: Details) -> tuple[set[str], set[str]]:
    """Numbers of pins, candidates, champions and of what a rollback goes back to; and their measurements."""
    found: set[str] = set()
    for environment in view.desired.environments:
        subject = Subject(environment=environment, model=model)
        release, past = view.release(subject), details.past[str(subject)]
        assert not isinstance(past, Gap)
        if release is not None:
            found.add(release.pin.version)
            found |= {each.version for each in (release.champion, view.champion(subject)) if each}
            back = next(targets(view, subject, release, [h.release for h in past if h.until]), None)
            found |= {back.pin.version} if back else set()
        if environment in view.model(subject).environments:
            wanted = candidate(view, subject)
            found |= set() if isinstance(wanted, Hold) else {wanted.pin.version}
    return found, {f"measured-{number}" for number in found if (number in VERSIONS)}


REMOVAL = Removal(
    model="digits",
    registry="default",
    name="digits",
    version="3",
    digest=digest_of_version("3"),
    created=NOON,
    archived=Archived(number=1, at=NOON, by="trueup", why="no longer needed in dev"),
    environments=("dev",),
    runs=("a", "b"),
)


def test_a_list_says_what_could_go_what_keeps_the_rest_and_how_to_delete_it() -> None:
    kept = Kept(model="digits", registry="default", name="digits", version="4", archived=False, why=("pinned",))
    listing = Listing(
        removals=(REMOVAL,), kept=(kept,), unknown={"fraud": "the forge did not answer"}, tripped=("dev: 30",)
    )
    digest = listing.digest.removeprefix("sha256:")[:12]
    assert plain(report.blocks(listing, "reconcile prune")) == (
        "Could go\n"
        "  VERSION   CREATED            ARCHIVED           RUNS  WHY\n"
        "  digits 3  2026-03-02 12:00Z  2026-03-02 12:00Z  2     no longer needed in dev\n"
        "\n"
        "Kept\n"
        "  digits 4: pinned\n"
        "\n"
        "? fraud: all is kept: the forge did not answer\n"
        "\n"
        "! tripwire: dev: 30\n"
        "\n"
        "1 version and 2 runs. A version that is deleted cannot be brought back. To delete exactly these:\n"
        f"  reconcile prune --delete --expect {digest}\n"
    )
    assert plain(report.blocks(Listing(), "reconcile prune")) == "Nothing can go.\n"


def test_what_became_of_it_is_text_and_json() -> None:
    about = {"key": "prune default/digits/3", "kind": "prune-version", "subject": Subject(model="digits")}
    done = (Outcome(**about, result="done", detail="version 3 of digits and 2 runs"),)
    assert plain(report.outcomes(done)) == "deleted version 3 of digits and 2 runs\n"
    said = json.loads(json.dumps(report.data(Listing(removals=(REMOVAL,)), done)))
    assert said["removals"][0]["runs"] == ["a", "b"]
    assert said["outcomes"][0]["result"] == "done"
    assert said["digest"].startswith("sha256:")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--delete"], "--delete and --expect DIGEST go together"),
        (["--expect", "abc"], "--delete and --expect DIGEST go together"),
        (["--delete", "--dry-run", "--expect", "abc"], "--delete deletes, and --dry-run does nothing"),
    ],
)
def test_what_is_not_said_whole_deletes_nothing(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["prune", *given]) == 1
    assert said in capsys.readouterr().err
