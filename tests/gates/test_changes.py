"""What was learned from changed: told in numbers, and half of it gone is for a person to look at."""

from __future__ import annotations

import json

import pytest

from reconciler.core.observed import TAG_INPUTS

pytestmark = pytest.mark.gates


def claims(bench, version):
    """A version like this one, that says it was trained on the rows of this commit."""
    inputs = {**version.training_inputs, "data": bench.desired.models["digits"].train_md5}
    other = version.model_copy(update={"tags": {**version.tags, TAG_INPUTS: json.dumps(inputs)}})
    return bench.planted(other, lambda folder: (folder / "trained-on").write_text(inputs["data"]))


def values(evidence) -> dict[str, float | None]:
    return {name: metric.overall.candidate.value for name, metric in evidence.metrics.items()}


def test_the_same_data_are_told_by_their_md5_and_not_fetched(digits, good, better) -> None:
    evidence = digits.measure("changes", better, good)
    removed = evidence.metrics["removed"].overall.candidate
    assert (removed.value, removed.n) == (0, 997)
    assert "the same data, md5 bae58a8c19aea75e8d300369b56120a3: nothing was fetched" in removed.note
    assert digits.judged(evidence, better, good)["data-change"].verdict == "pass"


def test_rows_added_and_removed_are_counted(digits, good) -> None:
    newer = digits.with_rows("train", lambda rows: rows[100:])
    candidate = claims(newer, good)
    evidence = newer.measure("changes", candidate, good)
    found = values(evidence)
    assert (found["added"], found["removed"], found["changed"]) == (0, 100, None)
    assert found["removed-share"] == pytest.approx(100 / 997)
    assert newer.judged(evidence, candidate, good)["data-change"].verdict == "pass"


def test_most_of_the_rows_gone_is_for_a_person_to_look_at(digits, good) -> None:
    cut = digits.with_rows("train", lambda rows: rows[:300])
    candidate = claims(cut, good)
    said = cut.judged(cut.measure("changes", candidate, good), candidate, good)["data-change"]
    assert (said.verdict, round(said.value, 3)) == ("review", 0.699)
