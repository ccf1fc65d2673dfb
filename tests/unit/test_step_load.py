"""What the step `load` makes of requests and of what the machine did meanwhile."""

from __future__ import annotations

import pytest

from reconciler.core.serving import Latency, Load, Serving, ServingOverride
from workflows.steps.load import MIB, Asked, Request, Second, measure

LOAD = Load(rate=20, rows=1, seconds=5, memory="512Mi")


def seconds(*others: float, grows: int = 0) -> list[Second]:
    return [
        Second(place, place + 1.0, used, (200 + place * grows) * MIB, 256 * MIB)
        for place, used in enumerate(others)
    ]


def requests(took: float, *, within: range, wrong: str = "") -> list[Request]:
    return [Request(second + place / 20, took, wrong) for second in within for place in range(20)]


def values(asked: Asked) -> dict[str, float | None]:
    return {name: each.overall.candidate.value for name, each in measure(LOAD, asked).items()}


def test_percentiles_are_of_the_seconds_in_which_others_did_least(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy, calm = requests(250.0, within=range(3)), requests(8.0, within=range(3, 8))
    found = measure(LOAD, Asked(2.0, seconds(2, 2, 2, 0, 0, 0, 0, 0), [*noisy, *calm]))
    p95 = found["p95-ms"].overall.candidate
    assert (p95.value, p95.n) == (8.0, 100)
    assert p95.note == "in 5 of 8 seconds, when others used 0.0 cores"
    assert found["requests-per-second"].overall.candidate.value == pytest.approx(20)


def test_quick_seconds_are_not_picked_because_they_were_quick() -> None:
    """The server itself is slow in two of five seconds: the machine was not busy, so they count."""
    own = [*requests(8.0, within=range(3)), *requests(250.0, within=range(3, 5))]
    assert values(Asked(2.0, seconds(0, 0, 0, 0, 0), own))["p95-ms"] == 250.0


@pytest.mark.parametrize(("slow", "p95"), [(5, 8.0), (6, 300.0)])
def test_five_of_a_hundred_may_be_slower_than_the_95th_percentile(slow, p95) -> None:
    asked = requests(8.0, within=range(5))
    for place in range(slow):
        asked[place * 10] = asked[place * 10]._replace(took=300.0)
    found = values(Asked(2.0, seconds(0, 0, 0, 0, 0), asked))
    assert (found["p50-ms"], found["p95-ms"], found["p99-ms"]) == (8.0, p95, 300.0)


def test_errors_are_of_all_requests_and_not_in_the_times() -> None:
    """What fails at once must not make a server look quick."""
    failed = requests(0.1, within=range(4), wrong="500")
    found = measure(LOAD, Asked(2.0, seconds(0, 0, 0, 0, 0), [*failed, *requests(90.0, within=range(4, 5))]))
    share, p50 = found["error-share"].overall.candidate, found["p50-ms"].overall.candidate
    assert (share.value, share.n) == (0.8, 100)
    assert (p50.value, p50.n) == (90.0, 20)


def test_nothing_that_was_not_measured_is_a_number() -> None:
    nothing = measure(LOAD, Asked(2.0, [], []))
    for name in ("p95-ms", "error-share", "requests-per-second"):
        estimate = nothing[name].overall.candidate
        assert (estimate.value, estimate.n) == (None, 0)
        assert estimate.note
    assert "memory-share" not in nothing
    assert values(Asked(2.0, seconds(0, 0), requests(1, within=range(2), wrong="refused")))["p95-ms"] is None


def test_memory_is_what_it_had_at_most_of_what_it_may_use() -> None:
    found = values(Asked(2.0, seconds(0, 0, 0, 0, 0, grows=10), requests(8.0, within=range(5))))
    assert (found["memory-mib"], found["memory-share"], found["growth-mib"]) == (256, 0.5, 40)


def test_what_a_model_says_of_its_load_is_pinned_nowhere() -> None:
    """A Release that exists keeps its digest; a measurement whose load is another has another key."""
    from reconciler.core.serving import Runtime

    quiet, asked = Serving(), Serving(latency=Latency(rate=50, rows=10, seconds=20))
    assert quiet.resolve("staging", Runtime(), "deployment/v1") == asked.resolve(
        "staging", Runtime(), "deployment/v1"
    )
    assert quiet.load_in("staging") == Load(rate=20, rows=1, seconds=6, memory="1Gi")
    more = Serving(overrides={"production": ServingOverride(resources={"memory": "4Gi"})})
    assert more.load_in("production").memory_bytes == 4 * 1024**3
    assert more.load_in("staging").memory == "1Gi"


def test_too_few_requests_for_a_percentile_are_refused() -> None:
    with pytest.raises(ValueError, match="asks fewer than 100 times"):
        Latency(rate=10, seconds=9)
