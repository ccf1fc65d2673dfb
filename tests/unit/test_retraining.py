"""When the instants of a schedule are, also where the clock is moved; when the hours of a day are used up."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reconciler.core.base import format_instant
from reconciler.core.documents import External, Retrain, Schedule, Training
from reconciler.planning.retraining import DAY, room_at

BERLIN = "Europe/Berlin"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def instants(cron: str, zone: str, start: str, end: str) -> list[str]:
    """Every instant of a schedule after ``start`` and not after ``end``."""
    schedule, found, now = Schedule(cron=cron, time_zone=zone), [], at(start)
    while (now := schedule.after(now)) <= at(end):
        found.append(format_instant(now))
    return found


@pytest.mark.parametrize(
    ("cron", "zone", "start", "end", "told"),
    [
        pytest.param(
            *("0 3 * * mon", BERLIN, "2026-02-28T00:00:00Z", "2026-03-09T12:00:00Z"),
            ["2026-03-02T02:00:00Z", "2026-03-09T02:00:00Z"],
            id="every Monday",
        ),
        pytest.param(
            *("30 2 * * *", BERLIN, "2026-03-28T00:00:00Z", "2026-03-30T12:00:00Z"),
            ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
            id="a time that the spring leaves out comes once, at the end of the gap",
        ),
        pytest.param(
            *("30 2 * * *", BERLIN, "2026-10-24T00:00:00Z", "2026-10-26T12:00:00Z"),
            ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
            id="a time that the autumn repeats comes once",
        ),
        pytest.param(
            *("30 2 * * *", BERLIN, "2026-10-25T01:15:00Z", "2026-10-26T12:00:00Z"),
            ["2026-10-26T01:30:00Z"],
            id="nor again after something began in between, in the hour that comes twice",
        ),
        pytest.param(
            *("0 * * * *", BERLIN, "2026-10-24T23:30:00Z", "2026-10-25T02:30:00Z"),
            ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"],
            id="every hour is every hour",
        ),
        pytest.param(
            *("15 0 29 2 *", BERLIN, "2026-01-01T00:00:00Z", "2033-01-01T00:00:00Z"),
            ["2028-02-28T23:15:00Z", "2032-02-28T23:15:00Z"],
            id="the leap day",
        ),
        pytest.param(
            *("0 12 L * *", "America/New_York", "2028-02-01T00:00:00Z", "2028-04-01T00:00:00Z"),
            ["2028-02-29T17:00:00Z", "2028-03-31T16:00:00Z"],
            id="the last day of each month, before and after the clock moved",
        ),
        pytest.param(
            *("45 1 * * *", "Australia/Lord_Howe", "2026-04-03T20:00:00Z", "2026-04-06T00:00:00Z"),
            ["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"],
            id="half an hour less",
        ),
    ],
)
def test_a_schedule_is_local_time(cron: str, zone: str, start: str, end: str, told: list[str]) -> None:
    assert instants(cron, zone, start, end) == told


@given(
    st.integers(0, 3 * 365 * 86_400).map(
        lambda seconds: at("2026-01-01T00:00:00Z") + timedelta(seconds=seconds)
    ),
    st.sampled_from(["30 2 * * *", "0 3 * * mon", "*/20 * * * *", "0 0 29 2 *", "59 1,2 * 3,10 sun"]),
    st.sampled_from([BERLIN, "UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)
def test_the_next_instant_is_always_later(now: datetime, cron: str, zone: str) -> None:
    schedule = Schedule(cron=cron, time_zone=zone)
    first = schedule.after(now)
    assert now < first < schedule.after(first)


@pytest.mark.parametrize(
    "cron", ["", "weekly", "@daily", "0 3 * *", "0 0 3 * * mon", "61 3 * * *", "0 0 30 2 *", "0 3 * * someday"]
)
def test_what_is_no_time_of_day_is_refused(cron: str) -> None:
    with pytest.raises(ValidationError, match="cron expression of five fields"):
        Schedule(cron=cron)


def test_what_is_trained_elsewhere_is_not_retrained_here() -> None:
    with pytest.raises(ValidationError, match="not trained here"):
        Training(external=External(alias="requested"), retrain=Retrain(cooldown=timedelta(hours=1)))
    with pytest.raises(ValidationError, match="has reproduce, and external versions are not trained here"):
        Training(external=External(alias="requested"), reproduce=Schedule(cron="0 2 * * sun"))


NOON = at("2026-03-02T12:00:00Z")
HOUR = timedelta(hours=1)


def span(began: float, ended: float) -> tuple[datetime, datetime]:
    """Hours before noon."""
    return NOON - began * HOUR, NOON - ended * HOUR


@pytest.mark.parametrize(
    ("hours", "spans", "waits"),
    [
        pytest.param(1, [], 0, id="nothing was trained"),
        pytest.param(2, [span(2, 1)], 0, id="some are left"),
        pytest.param(2, [span(2, 0)], 22, id="all of them now: until its beginning is a day ago"),
        pytest.param(2, [span(25, 22)], 0, id="of three hours, one is more than a day ago, and that is enough"),
        pytest.param(2, [span(24.5, 22)], 0, id="used up to the second, and some of it passes just now"),
        pytest.param(2, [span(24, 20)], 2, id="half of it has to pass"),
        pytest.param(3, [span(22, 20), span(10, 8)], 3, id="an hour of the first"),
        pytest.param(1, [span(22, 20), span(10, 8)], 15, id="the first and an hour of the second"),
        pytest.param(1, [span(20, 19), span(20, 19)], 4.5, id="two at once are two hours"),
        pytest.param(0.5, [span(0.25, 0), span(0.25, 0)], 23.75, id="half an hour"),
    ],
)
def test_there_is_room_when_enough_is_a_day_ago(
    hours: float, spans: list[tuple[datetime, datetime]], waits: float
) -> None:
    assert room_at(hours * HOUR, spans, NOON) == NOON + waits * HOUR


@given(
    st.lists(st.tuples(st.integers(0, 48 * 60), st.integers(0, 48 * 60)), max_size=6),
    st.integers(1, 24 * 60),
)
def test_at_that_moment_the_day_has_no_more_in_it_than_the_budget(
    minutes: list[tuple[int, int]], budget: int
) -> None:
    spans = [span(max(pair) / 60, min(pair) / 60) for pair in minutes]
    room = room_at(timedelta(minutes=budget), spans, NOON)
    used = sum((max(ended - max(began, room - DAY), timedelta(0)) for began, ended in spans), timedelta(0))
    assert room >= NOON
    assert used <= timedelta(minutes=budget, milliseconds=1)
    if room > NOON:  # and not a moment earlier than it must be
        assert used > timedelta(minutes=budget, milliseconds=-1)
