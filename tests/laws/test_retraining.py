"""Whatever asks for a training, and however often: one key is trained once, and a schedule's night has one.

The laws run whole ticks over a World; what is trained is read off the engine and the registry.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from reconciler.apply import submit
from reconciler.core.errors import Terminal
from reconciler.core.observed import WorkflowRun
from reconciler.core.plan import StopWorkflow
from reconciler.core.references import model_path
from reconciler.core.strict_yaml import read
from reconciler.loop import plan_once
from reconciler.planning import orders
from reconciler.planning.view import attempt_of
from tests.doubles.documents import edited, environment, model, shipped
from tests.doubles.world import World
from tests.laws.driving import tick

MODEL = model_path("digits")


def world(on: list[str], retrain: dict[str, Any], at: datetime) -> World:
    """One environment and one model, of which nothing was trained yet."""
    training = {"workflow": "train-v1", "seed": 0, "retrain": retrain}
    documents = environment("staging", retrainOn=on) | model("digits", "staging", training=training)
    return World(shipped() | documents, at)


def change(made: World, what: str, number: int) -> None:
    """Main's code, data or seed becomes that of this number; one that was there before is a revert."""
    if what == "seed":
        text = made.repository.text(MODEL)
        training = {"workflow": "train-v1", "seed": number}
        training |= {k: v for k, v in _training(text).items() if k == "retrain"}
        made.commit({MODEL: edited(text, training=training)})
        return
    files = model(f"digits-{number}")
    path = {"code": "src/train.py", "data": "data/train.csv.dvc"}[what]
    made.commit({f"models/digits/{path}": files[f"models/digits-{number}/{path}"]})


def _training(text: str) -> dict[str, Any]:
    found: dict[str, Any] = read(text.encode(), "a model").value["training"]
    return found


def trained(made: World) -> Counter[str]:
    """Versions in the registry, by training key."""
    found = made.registry.sweep().models.get("digits")
    return Counter(v.training_key or "" for v in (found.versions if found else ()))


def begun(made: World) -> list[datetime]:
    runs = [run for run in made.engine.runs.values() if run.labels["trueup.dev/kind"] == "train"]
    return sorted(run.started for run in runs if run.started)


RETRAIN = [
    {},
    {"schedule": {"cron": "0 3 * * *", "timeZone": "Europe/Berlin"}},
    {"cooldown": "6h"},
    {"hoursPerDay": 2},
    {"schedule": {"cron": "30 2 * * *", "timeZone": "Europe/Berlin"}, "cooldown": "30h", "hoursPerDay": 1},
]
ON = [["code", "data"], ["schedule"], ["code", "schedule"], ["data", "schedule"], []]
STEPS = st.one_of(
    st.tuples(st.sampled_from(["code", "data", "seed"]), st.integers(0, 2)),
    st.tuples(st.just("wait"), st.sampled_from([1, 60, 400, 1500])),
    st.tuples(st.sampled_from(["settle", "fail"]), st.just(0)),
    st.tuples(st.sampled_from(["retrain", "retry", "cancel"]), st.integers(0, 3)),
)


@given(st.sampled_from(ON), st.sampled_from(RETRAIN), st.lists(STEPS, min_size=3, max_size=25))
def test_no_sequence_of_triggers_trains_an_unchanged_key_twice(
    on: list[str], retrain: dict[str, Any], steps: list[tuple[str, int]]
) -> None:
    if "schedule" in retrain and "schedule" not in on:
        on = [*on, "schedule"]
    made = world(on, retrain, datetime(2026, 3, 28, 22, tzinfo=UTC))
    for step, number in steps:
        note(f"{step} {number}")
        match step:
            case "wait":
                made.wait(timedelta(minutes=number))
            case "settle":
                made.settle()
            case "fail":
                made.failing["train-digits"] = 1
                made.settle()
            case "retrain" | "retry" | "cancel":
                ordered(made, step, number)
            case _:
                change(made, step, number)
        there, cancelled = trained(made), cancelled_now(made)
        submitted = {o.key for o in tick(made).outcomes if o.kind == "submit-workflow" and "train-" in o.key}
        assert not [key for key in (*there, *cancelled) if any(key in each for each in submitted)]
    assert max(trained(made).values(), default=1) == 1


def ordered(made: World, order: str, number: int) -> None:
    """What a person's command does: decide on what is seen, and make the one write; or be refused."""
    before, there = set(made.engine.runs), trained(made)
    desired, observed, _ = plan_once(made.readers(), made.clock())
    going = sorted(run.name for run in made.engine.running()) or ["train-digits-none-1"]
    name = going[number % len(going)] if order == "cancel" else "digits"
    try:
        action = getattr(orders, order)(desired, observed, name, "a person says so")
    except Terminal:
        return
    if isinstance(action, StopWorkflow):
        made.engine.stop(action.name, reason=action.reason, by="Ada")
    else:
        assert submit(action, made.engine, "Ada")
        assert action.name not in before
        assert action.labels["trueup.dev/key"] not in there or action.labels["trueup.dev/kind"] != "train"


def cancelled_now(made: World) -> set[str]:
    """Keys whose last training a person ended, and nobody asked for again."""
    last: dict[str, WorkflowRun] = {}
    for run in sorted(made.engine.runs.values(), key=attempt_of):
        if run.labels["trueup.dev/kind"] == "train":
            last[run.labels["trueup.dev/key"]] = run
    return {key for key, run in last.items() if run.stopped_by}


def test_of_two_who_ask_at_once_one_has_the_run_and_the_other_is_told() -> None:
    """Both saw the same; the name is the same, and the engine takes it once."""
    made = world(["schedule"], {"schedule": {"cron": "0 3 * * *"}}, datetime(2026, 3, 2, 12, tzinfo=UTC))
    tick(made)
    made.settle()
    change(made, "code", 1)
    desired, observed, plan = plan_once(made.readers(), made.clock())
    assert [hold.code for hold in plan.holds if not hold.subject.environment] == ["awaiting-schedule"]
    actions = [orders.retrain(desired, observed, "digits", f"{who} says so") for who in ("Ada", "Grace")]
    assert [
        submit(action, made.engine, who) for action, who in zip(actions, ("Ada", "Grace"), strict=True)
    ] == [
        True,
        False,
    ]
    run = made.engine.runs[actions[0].name]
    assert (run.asked_by, run.reason) == ("Ada", "Ada says so")
    desired, observed, _ = plan_once(made.readers(), made.clock())
    with pytest.raises(Terminal, match="asked for by Ada: Ada says so"):
        orders.retrain(desired, observed, "digits", "Grace says so")


def test_a_retry_beside_a_cancellation_has_an_order_whoever_comes_first() -> None:
    made = world(["code"], {}, datetime(2026, 3, 2, 12, tzinfo=UTC))
    tick(made)
    (run,) = made.engine.running()
    desired, observed, _ = plan_once(made.readers(), made.clock())
    with pytest.raises(Terminal, match="is running"):
        orders.retry(desired, observed, run.name, "too early")
    made.engine.stop(run.name, reason="labels are wrong", by="Ada")
    assert [hold.code for hold in tick(made).planned.plan.holds][:1] == ["cancelled"]
    desired, observed, _ = plan_once(made.readers(), made.clock())
    again = orders.retry(desired, observed, run.name, "they are right")
    assert again.reason.endswith("was cancelled by Ada: labels are wrong")
    assert submit(again, made.engine, "Grace")
    assert next(hold.reason for hold in tick(made).planned.plan.holds).startswith(f"{again.name} is running")
    made.settle()
    assert sum(trained(made).values()) == 1


@pytest.mark.parametrize(
    ("cron", "night", "told"),
    [
        ("30 2 * * *", "2026-03-28T23:00:00Z", "2026-03-29T01:00:00Z"),
        ("30 2 * * *", "2026-10-24T22:00:00Z", "2026-10-25T00:30:00Z"),
        ("0 3 * * *", "2026-03-28T23:00:00Z", "2026-03-29T01:00:00Z"),
        ("15 0 29 2 *", "2028-02-28T22:00:00Z", "2028-02-28T23:15:00Z"),
    ],
    ids=["spring, in the gap", "autumn, in the hour that comes twice", "spring, after the gap", "leap day"],
)
def test_a_night_of_the_schedule_has_one_training(cron: str, night: str, told: str) -> None:
    """Ticks every five minutes, and a commit before each: what gathers is trained once, at the instant."""
    made = world(
        ["schedule"],
        {"schedule": {"cron": cron, "timeZone": "Europe/Berlin"}},
        datetime.fromisoformat(night) - timedelta(hours=20),
    )
    tick(made)
    made.settle()
    made.clock.now = datetime.fromisoformat(night)
    first = begun(made)
    for number in range(6 * 12):
        change(made, "data", number)
        tick(made)
        made.settle()
        made.wait(timedelta(minutes=5))
    assert [at for at in begun(made) if at not in first] == [datetime.fromisoformat(told)]


def test_a_schedule_without_a_change_trains_nothing() -> None:
    made = world(["schedule"], {"schedule": {"cron": "0 3 * * *"}}, datetime(2026, 3, 2, tzinfo=UTC))
    for _ in range(5 * 24):
        tick(made)
        made.settle()
        made.wait(timedelta(hours=1))
    assert sum(trained(made).values()) == 1
