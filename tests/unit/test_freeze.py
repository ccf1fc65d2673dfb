"""Freeze windows: local time, days on which the clocks change, and windows that meet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.documents import Freeze, frozen_until

BERLIN = (
    "Europe/Berlin"  # 2026: forward on March 29 at 01:00Z, 02:00 to 03:00; back on October 25, 03:00 to 02:00
)
LORD_HOWE = (
    "Australia/Lord_Howe"  # half an hour; 2026: back on April 4 at 15:00Z, forward on October 3 at 15:30Z
)
SANTIAGO = "America/Santiago"  # 2026: forward on September 6, from midnight to 01:00


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def weekly(days: str, begin: str, end: str, zone: str = BERLIN) -> Freeze:
    return Freeze.model_validate(
        {"reason": "x", "days": days.split(), "from": begin, "to": end, "timeZone": zone}, strict=False
    )


def once(start: str, end: str) -> Freeze:
    return Freeze(reason="x", start=at(start), end=at(end))


@pytest.mark.parametrize(
    ("window", "start", "end"),
    [
        # an ordinary day, in winter and in summer
        (weekly("mon", "08:00", "17:00"), "2026-01-05T07:00", "2026-01-05T16:00"),
        (weekly("mon", "08:00", "17:00"), "2026-07-06T06:00", "2026-07-06T15:00"),
        # until midnight, over midnight, the whole day, over the end of the year
        (weekly("mon", "22:00", "00:00"), "2026-01-05T21:00", "2026-01-05T23:00"),
        (weekly("mon", "22:00", "06:00"), "2026-01-05T21:00", "2026-01-06T05:00"),
        (weekly("mon", "00:00", "00:00"), "2026-01-04T23:00", "2026-01-05T23:00"),
        (weekly("thu", "22:00", "06:00"), "2026-12-31T21:00", "2027-01-01T05:00"),
        (weekly("thu", "12:00", "12:00"), "2026-12-31T11:00", "2027-01-01T11:00"),
        (once("2026-12-24T00:00", "2027-01-02T00:00"), "2026-12-24T00:00", "2027-01-02T00:00"),
        # a leap day, once and in its week
        (once("2028-02-29T00:00", "2028-03-01T00:00"), "2028-02-29T00:00", "2028-03-01T00:00"),
        (weekly("tue", "00:00", "00:00"), "2028-02-28T23:00", "2028-02-29T23:00"),
        (weekly("mon", "22:00", "06:00"), "2028-02-28T21:00", "2028-02-29T05:00"),
        # spring: a `from` and a `to` that do not exist that day are the instant of the change
        (weekly("sun", "02:30", "06:00"), "2026-03-29T01:00", "2026-03-29T04:00"),
        (weekly("sun", "00:00", "02:30"), "2026-03-28T23:00", "2026-03-29T01:00"),
        (weekly("sun", "01:00", "05:00"), "2026-03-29T00:00", "2026-03-29T03:00"),
        (weekly("sat", "22:00", "06:00"), "2026-03-28T21:00", "2026-03-29T04:00"),
        (weekly("sat", "22:00", "02:15"), "2026-03-28T21:00", "2026-03-29T01:00"),
        # autumn: what comes twice is frozen both times
        (weekly("sun", "02:30", "06:00"), "2026-10-25T00:30", "2026-10-25T05:00"),
        (weekly("sun", "00:00", "02:30"), "2026-10-24T22:00", "2026-10-25T01:30"),
        (weekly("sun", "02:10", "02:20"), "2026-10-25T00:10", "2026-10-25T01:20"),
        (weekly("sat", "22:00", "06:00"), "2026-10-24T20:00", "2026-10-25T05:00"),
        (weekly("sat", "22:00", "02:30"), "2026-10-24T20:00", "2026-10-25T01:30"),
        (weekly("sun", "00:00", "00:00"), "2026-10-24T22:00", "2026-10-25T23:00"),
        # half an hour: 02:00 becomes 02:30 in October, and in April 02:00 becomes 01:30
        (weekly("sun", "02:15", "06:00", LORD_HOWE), "2026-10-03T15:30", "2026-10-03T19:00"),
        (weekly("sun", "00:00", "02:15", LORD_HOWE), "2026-10-03T13:30", "2026-10-03T15:30"),
        (weekly("sun", "01:45", "06:00", LORD_HOWE), "2026-04-04T14:45", "2026-04-04T19:30"),
        (weekly("sun", "00:00", "01:45", LORD_HOWE), "2026-04-04T13:00", "2026-04-04T15:15"),
        # a midnight that does not exist, at either end
        (weekly("sun", "00:00", "12:00", SANTIAGO), "2026-09-06T04:00", "2026-09-06T15:00"),
        (weekly("sat", "20:00", "00:00", SANTIAGO), "2026-09-06T00:00", "2026-09-06T04:00"),
    ],
)
def test_from_when_to_when(window: Freeze, start: str, end: str) -> None:
    second = timedelta(seconds=1)
    assert not window.active(at(start) - second)
    assert window.ends(at(start)) == window.ends(at(end) - second) == at(end)
    middle = at(start) + (at(end) - at(start)) / 2
    assert window.active(middle)
    assert not window.active(at(end))
    assert window.ends(at(end)) is None


NEW_YEAR = once("2026-01-01T00:00", "2026-01-04T00:00")
INSIDE = once("2026-01-01T12:00", "2026-01-03T00:00")
LONGER = once("2026-01-03T12:00", "2026-01-05T00:00")
EVENING, NIGHT = weekly("fri", "18:00", "00:00"), weekly("sat", "00:00", "08:00")
MORNING = once("2026-01-03T07:00", "2026-01-03T09:30")


@pytest.mark.parametrize(
    ("windows", "now", "end"),
    [
        ([weekly("sat sun", "00:00", "00:00")], "2026-01-03T12:00", "2026-01-04T23:00"),
        ([weekly("sat sun", "00:00", "00:00")], "2026-03-28T12:00", "2026-03-29T22:00"),
        ([NEW_YEAR, INSIDE], "2026-01-02T06:00", "2026-01-04T00:00"),
        ([INSIDE, NEW_YEAR, LONGER], "2026-01-02T06:00", "2026-01-05T00:00"),
        ([EVENING, NIGHT, MORNING], "2026-01-02T20:00", "2026-01-03T09:30"),
        ([EVENING, weekly("sat", "00:01", "08:00")], "2026-01-02T20:00", "2026-01-02T23:00"),
        ([weekly("mon", "08:00", "17:00")], "2026-01-06T12:00", ""),
        ([], "2026-01-06T12:00", ""),
    ],
)
def test_windows_that_meet_are_one(windows: list[Freeze], now: str, end: str) -> None:
    assert frozen_until(windows, at(now)) == (at(end) if end else None)


def test_a_freeze_that_never_ends_is_said_to_last_for_more_than_a_year() -> None:
    always = weekly("mon tue wed thu fri sat sun", "00:00", "00:00")
    end = frozen_until([always], at("2026-01-06T12:00"))
    assert end is not None
    assert end > at("2027-01-06T12:00")


DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
TIMES = st.times().map(lambda t: f"{t.hour:02}:{t.minute:02}")


@given(
    days=st.sets(st.sampled_from(DAYS), min_size=1),
    begin=TIMES,
    end=TIMES,
    zone=st.sampled_from([BERLIN, LORD_HOWE, SANTIAGO, "UTC", "Asia/Kathmandu", "America/New_York"]),
    minute=st.integers(0, 366 * 24 * 60),
)
def test_away_from_a_change_a_window_is_what_the_clock_on_the_wall_says(
    days: set[str], begin: str, end: str, zone: str, minute: int
) -> None:
    now = at("2028-01-01T00:00") + timedelta(minutes=minute)
    place = ZoneInfo(zone)
    around = {(now + timedelta(hours=h)).astimezone(place).utcoffset() for h in range(-26, 27)}
    local = now.astimezone(place)
    clock, today, yesterday = f"{local:%H:%M}", DAYS[local.weekday()], DAYS[local.weekday() - 1]
    if begin < end:
        wanted = today in days and begin <= clock < end
    else:
        wanted = (today in days and clock >= begin) or (yesterday in days and clock < end)
    if len(around) == 1:
        assert weekly(" ".join(sorted(days)), begin, end, zone).active(now) == wanted


def test_an_end_is_never_in_the_past() -> None:
    window = weekly("sat sun", "02:30", "02:15")
    start = at("2026-10-23T00:00")
    for minute in range(0, 4 * 24 * 60, 7):
        now = start + timedelta(minutes=minute)
        closes = window.ends(now)
        assert (closes is not None) == window.active(now)
        assert closes is None or now < closes <= now + timedelta(hours=49)
