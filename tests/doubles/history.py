"""A World with a past: 13 versions on their way to production, and the arithmetic of what became of them.

:func:`history` is made by the loop itself, tick by tick. :class:`Reckoning` is what a person would work out on
paper from the table below, in whole thousandths, and shares no code with the judge.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import NamedTuple

from tests.doubles.documents import environment, model, shipped
from tests.doubles.world import HALF_INTERVAL, World
from tests.laws.driving import converge

_SCORES = (940, 950, 900, 944, 952, 930, 948, 940, 960, 957, 935, 961, 957)
ACCURACY = dict(enumerate(_SCORES, start=1))
"""Version -> what it scores, in thousandths."""

TIGHTENED_BEFORE = 8
"""The version before whose training the policies were tightened."""

BROKEN = 9
"""It soaks in staging, fails in production, and is rolled back there."""

BASELINE = 900
HALF = round(HALF_INTERVAL * 1000)


class Rules(NamedTuple):
    """What the policies ask, in thousandths: staging's and production's drop, and production's floor."""

    drop: int = 20
    floor: int = 946

    def files(self) -> dict[str, str]:
        return {
            "policies/staging.yaml": POLICY.format(extends="")
            + NOT_WORSE.format(drop=self.drop / 1000, alone="baseline")
            + PARITY,
            "policies/production.yaml": POLICY.format(extends="extends: staging\n")
            + NOT_WORSE.format(drop=self.drop / 1000, alone="review")
            + FLOOR.format(floor=self.floor / 1000),
        }


POLICY = "apiVersion: trueup.dev/v1\nkind: GatePolicy\n{extends}gates:\n"
NOT_WORSE = """\
  - name: not-worse
    metric: evaluate.accuracy
    versus: {{ref: champion, maxDrop: {drop}}}
    minSamples: 500
    maxAge: 30d
    onNoChampion: {alone}
"""
PARITY = '  - {name: parity, metric: parity.agreement, op: ">=", threshold: 1.0}\n'
FLOOR = '  - {{name: floor, metric: evaluate.accuracy, op: ">=", threshold: {floor}}}\n'
FIRST, LATER = Rules(), Rules(drop=10)


@cache
def _history() -> World:
    approved = {"merge": "auto", "approvals": 1, "soak": "10m"}
    files = {
        **shipped(),
        **FIRST.files(),
        **environment("staging"),
        **environment("production", promotes_from=("staging",), promotion=approved),
        **model("digits", "staging", "production"),
    }
    world = World(files)
    world.accuracy = {("digits", str(version)): value / 1000 for version, value in ACCURACY.items()}
    world.broken.add(("production", str(BROKEN)))
    for version in ACCURACY:
        if version == TIGHTENED_BEFORE:
            world.commit(LATER.files(), subject="half the drop")
        world.commit(model("digits", "staging", "production", seed=version))
        converge(world)
        world.wait(timedelta(days=1))
    return world


def history() -> World:
    """Of one's own: what a test does to it, no other test sees."""
    return _history().copy()


class Judged(NamedTuple):
    """One candidate in one environment; ``champion`` is 0 where there was none."""

    environment: str
    version: int
    champion: int
    released: bool


def reckoned() -> list[Judged]:
    """Who was judged against whom, oldest first, and whether it was released."""
    champions = {"staging": 0, "production": 0}
    found = []
    for version in ACCURACY:
        rules = LATER if version >= TIGHTENED_BEFORE else FIRST
        for place, champion in champions.items():
            released = verdict(place, version, champion, rules) != "block"
            found.append(Judged(place, version, champion, released))
            if not released:
                break
            if not (place == "production" and version == BROKEN):
                champions[place] = version
    return found


def verdict(environment: str, version: int, champion: int, rules: Rules) -> str:
    value = ACCURACY[version]
    if environment == "production" and value < rules.floor:
        return "block"
    if champion:
        return "pass" if value - ACCURACY[champion] - HALF >= -rules.drop else "block"
    if environment == "production":
        return "review"
    return "pass" if value >= BASELINE - rules.drop else "block"
