"""Rows added, removed and changed: counted by hand on rows small enough to read."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from workflows.steps import changes
from workflows.steps.changes import Difference, differ, hashes, measure, nothing, without
from workflows.steps.pointers import Tracked

OLD = pd.DataFrame({"id": ["a", "b", "c", "c"], "n": [1, 2, 3, 3]})


def compared(folder: Path, new: pd.DataFrame, keys: tuple[str, ...] = ()) -> Difference:
    new.to_csv(folder / "new.csv", index=False)
    OLD.to_csv(folder / "old.csv", index=False)
    sides = [hashes(folder, [f"{name}.csv"], keys) for name in ("new", "old")]
    return differ(*sides, keyed=bool(keys))


CASES = {
    # rows -> added, removed, changed by id
    "the same in another order": (OLD[::-1], 0, 0, 0),
    "one more": (pd.concat([OLD, pd.DataFrame({"id": ["d"], "n": [4]})]), 1, 0, 0),
    "one less, of two alike": (OLD[:3], 0, 1, 0),
    "one more, of two alike": (pd.concat([OLD, OLD[3:]]), 1, 0, 0),
    "one changed": (OLD.assign(n=[1, 9, 3, 3]), 0, 0, 1),
    "one of two with a key changed": (OLD.assign(n=[1, 2, 3, 9]), 0, 0, 1),
    "all other": (pd.DataFrame({"id": ["x"], "n": [0]}), 1, 4, 0),
    "changed, and one more of that key": (
        pd.DataFrame({"id": ["a", "b", "b", "c", "c"], "n": [1, 8, 9, 3, 3]}),
        1,
        0,
        1,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_changed_is_told_by_its_keys(case: str, tmp_path: Path) -> None:
    new, added, removed, changed = CASES[case]
    assert compared(tmp_path, new, ("id",)) == Difference(added, removed, changed)


@pytest.mark.parametrize("case", CASES)
def test_without_keys_a_changed_row_is_removed_and_added(case: str, tmp_path: Path) -> None:
    new, added, removed, changed = CASES[case]
    assert compared(tmp_path, new) == Difference(added + changed, removed + changed, None)


def test_the_order_of_columns_is_none_and_a_new_one_is_told(tmp_path: Path) -> None:
    assert compared(tmp_path, OLD[["n", "id"]], ("id",)) == Difference(0, 0, 0)
    said = "columns that are new: more"
    assert compared(tmp_path, OLD.assign(more=1), ("id",)) == Difference(0, 0, 4, said)


def test_files_that_are_in_both_are_not_read() -> None:
    ours = [Tracked("1" * 32, "d/a.csv"), Tracked("1" * 32, "d/again.csv"), Tracked("2" * 32, "d/b.csv")]
    assert without(ours, Counter({"1" * 32: 1})) == [ours[1], ours[2]]


def test_shares_are_of_the_champions_rows_and_of_the_candidates() -> None:
    metrics = measure(Difference(5, 10, None), 45, 50)
    values = {name: metric.overall.candidate for name, metric in metrics.items()}
    assert (values["removed-share"].value, values["removed-share"].n) == (0.2, 50)
    assert (values["added-share"].value, values["added-share"].n) == (pytest.approx(1 / 9), 45)
    assert values["changed"].value is None
    assert "the contract names no keys" in values["changed-share"].note
    assert {metric.overall.candidate.value for metric in nothing("nobody knows").values()} == {None}


@pytest.mark.parametrize(
    ("known", "n", "says"), [({"1": 900}, 900, False), ({}, 1, True)], ids=["known of one", "known of none"]
)
def test_the_same_data_have_as_many_rows_as_one_of_both_says(
    known: dict[str, int], n: int, says: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "rows_of", lambda _, version: known.get(version))
    same = {"candidate_md5": "a" * 32, "champion_md5": "a" * 32}
    options = argparse.Namespace(registered_name="digits", candidate_version="2", champion_version="1", **same)
    found = changes.compared(options, ())
    estimates = [metric.overall.candidate for metric in found.values()]
    assert {(estimate.value, estimate.n) for estimate in estimates} == {(0, n)}
    assert {"the sample is the one md5" in estimate.note for estimate in estimates} == {says}
