"""What a planning function returns: actions and holds, in order, addable."""

from __future__ import annotations

from typing import NamedTuple

from reconciler.core.plan import Action, Hold


class Decision(NamedTuple):
    """Actions to take and holds to report, of one subject."""

    actions: tuple[Action, ...] = ()
    holds: tuple[Hold, ...] = ()

    def and_then(self, other: Decision) -> Decision:
        return Decision(self.actions + other.actions, self.holds + other.holds)


NOTHING = Decision()


def act(*actions: Action) -> Decision:
    return Decision(actions=actions)


def wait(*holds: Hold) -> Decision:
    return Decision(holds=holds)
