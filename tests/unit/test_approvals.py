"""Approvals by count and by group: who counts for what, and what is missing."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.approvals import missing
from reconciler.core.documents import GroupApproval

GROUPS = {"risk": ("ann", "bob"), "legal": ("ann", "carol"), "all": ("ann", "bob", "carol", "dave")}


def needs(text: str) -> list[GroupApproval]:
    return [GroupApproval(group=name, count=int(count)) for name, count in map(str.split, text.split(","))]


@pytest.mark.parametrize(
    ("wanted", "people", "absent"),
    [
        ("risk 1", [], {"risk": 1}),
        ("risk 1", ["eve"], {"risk": 1}),
        ("risk 1", ["bob", "eve"], {}),
        ("risk 2", ["bob"], {"risk": 1}),
        ("risk 1,legal 1", ["ann"], {"legal": 1}),
        ("risk 1,legal 1", ["ann", "carol"], {}),
        ("legal 1,risk 1", ["ann", "bob"], {}),
        ("all 2,risk 1,legal 1", ["ann", "bob", "carol"], {"legal": 1}),
        ("all 2,risk 1,legal 1", ["ann", "bob", "carol", "dave"], {}),
        ("unknown 2", ["ann"], {"unknown": 2}),
    ],
)
def test_one_person_counts_for_one_group(wanted: str, people: list[str], absent: dict[str, int]) -> None:
    assert missing(needs(wanted), GROUPS, people) == absent


@given(
    counts=st.dictionaries(st.sampled_from(sorted(GROUPS)), st.integers(1, 2), max_size=3),
    people=st.sets(st.sampled_from(["ann", "bob", "carol", "dave"])),
)
def test_nobody_is_asked_for_who_could_be_shared_out_better(counts: dict[str, int], people: set[str]) -> None:
    places = [group for group, count in counts.items() for _ in range(count)]
    orders = permutations([*sorted(people), *[""] * len(places)], len(places))
    shared_out = [sum(who in GROUPS[at] for who, at in zip(order, places, strict=True)) for order in orders]
    best = max(shared_out, default=0)
    wanted = [GroupApproval(group=group, count=count) for group, count in counts.items()]
    assert sum(missing(wanted, GROUPS, people).values()) == len(places) - best
