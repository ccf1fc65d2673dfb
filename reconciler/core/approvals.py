"""Whose approvals are missing: a person counts for the total, and for one of the groups that they are in.

Called where an Environment's rule is checked against the Platform's groups, and where approvals are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from reconciler.core.documents import GroupApproval


def missing(
    needs: Iterable[GroupApproval], groups: Mapping[str, Collection[str]], people: Collection[str]
) -> dict[str, int]:
    """Group -> how many approvals of it are missing, when ``people`` are shared out as well as can be.

    A largest matching of people and places, by augmenting paths (H. W. Kuhn, 1955). A group that is not
    known has nobody in it.
    """
    places = [need.group for need in needs for _ in range(need.count)]
    taken: dict[str, int] = {}

    def fill(place: int, asked: set[str]) -> bool:
        for person in sorted(set(groups.get(places[place], ())) & set(people) - asked):
            asked.add(person)
            if person not in taken or fill(taken[person], asked):
                taken[person] = place
                return True
        return False

    return dict(Counter(group for place, group in enumerate(places) if not fill(place, set())))
