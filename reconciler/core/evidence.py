"""What a measurement writes: numbers, how many samples they rest on, and on what they were measured.

Evidence never says pass or fail; :mod:`reconciler.planning.judge` does. :data:`CATALOGUE` is the one list of
measurements: adding one is one entry here and one step in ``workflows/steps``.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ValidationError, model_validator

from reconciler.core.base import Digest, Frozen, Instant, Name
from reconciler.core.digests import canonical_json, sha256
from reconciler.core.errors import Terminal


class Estimate(Frozen):
    """A value, the number of samples it rests on, and where it has one an interval.

    ``value`` is None where nothing could be measured; ``note`` then says why, and otherwise may say why
    there is no interval. ``confidence`` is the interval's level, as in 0.95. ``detectable``, of a difference:
    the smallest true one that this many samples would have shown four times in five. ``names`` are of what a
    count counted, as many as people read.
    """

    value: float | None = None
    n: Annotated[int, Field(ge=0)]
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    detectable: float | None = None
    note: str = ""
    names: tuple[str, ...] | None = None  # which evidence of before it came does not have

    @model_validator(mode="before")
    @classmethod
    def _finite(cls, data: Any) -> Any:
        """A number that JSON cannot hold (NaN, infinity) becomes null with a note, wherever it comes from."""
        if not isinstance(data, dict):
            return data
        lost = {
            name: data[name]
            for name in ("value", "low", "high", "confidence", "detectable")
            if isinstance(data.get(name), float) and not math.isfinite(data[name])
        }
        if not lost:
            return data
        said = [f"measured {lost['value']}"] if "value" in lost else []
        note = "; ".join([*said, *filter(None, [data.get("note", "")])])
        without: dict[str, None] = dict.fromkeys(("low", "high", *lost))
        return {**data, **without, "note": note}

    @property
    def usable(self) -> bool:
        """A finite number from at least one sample."""
        return self.value is not None and math.isfinite(self.value) and self.n > 0

    def named(self, most: int) -> str:
        """At most so many of the names, and how many more were counted; empty where there are none."""
        shown = (self.names or ())[:most]
        more = int(self.value or 0) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if shown and more > 0 else "")

    @property
    def has_interval(self) -> bool:
        return (
            self.low is not None
            and self.high is not None
            and math.isfinite(self.low)
            and math.isfinite(self.high)
            and self.low <= self.high
        )


class Scores(Frozen):
    """One metric on one set of rows: of the candidate, of the champion on the same rows, and paired.

    ``difference`` is candidate minus champion, resampled in pairs (Efron's percentile bootstrap).
    """

    candidate: Estimate
    champion: Estimate | None = None
    difference: Estimate | None = None


class Metric(Frozen):
    overall: Scores
    slices: dict[str, dict[str, Scores]] = Field(
        default_factory=dict, description="Slice column -> value of that column -> scores."
    )


class MeasuredOn(Frozen):
    """Where the numbers come from, for people; what decides is in ``inputs``."""

    image: str = ""
    commit: str = ""
    run: str = Field(default="", description="The MLflow run that holds this evidence.")


class Evidence(Frozen):
    """One measurement of one candidate. ``inputs`` are exactly those the catalogue declares for the kind."""

    api_version: Literal["trueup.dev/v1"] = "trueup.dev/v1"
    kind: Literal["Evidence"] = "Evidence"
    measurement: Name
    recipe: str
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    inputs: dict[str, str | tuple[str, ...]]
    measured_on: MeasuredOn = MeasuredOn()
    at: Instant
    metrics: dict[str, Metric]

    @property
    def digest(self) -> str:
        return sha256(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The canonical file, whose SHA-256 the mark carries."""
        return (canonical_json(self) + "\n").encode()


def parse_evidence(content: bytes, *, where: str) -> Evidence:
    """Raises Terminal where the bytes are not evidence of a known shape."""
    try:
        return Evidence.model_validate(json.loads(content))
    except (ValueError, ValidationError, RecursionError) as error:
        raise Terminal(
            f"is not evidence: {str(error).splitlines()[0]}",
            where=where,
            hint="delete its mark to measure again",
        ) from error


class Measurement(NamedTuple):
    """One kind of measurement: the WorkflowTemplate that makes it, its recipe, and the inputs of its key.

    ``recipe`` changes when the meaning of the numbers changes; that alone makes old evidence another key.
    """

    template: str
    recipe: str
    inputs: tuple[str, ...]


CATALOGUE: dict[str, Measurement] = {
    # quality of the candidate, and of the champion on the same rows, with a paired bootstrap; by group, too
    "evaluate": Measurement(
        "measure-evaluate-v1",
        "2",
        ("candidate", "champion", "data", "target", "slices", "protected", "task"),
    ),
    # the same raw rows through the real server: do they give the predictions that were evaluated?
    "parity": Measurement("measure-parity-v1", "1", ("candidate", "data", "target", "server")),
    # how many cases of the model's own tests of behaviour it passes
    "behaviour": Measurement("measure-behaviour-v1", "1", ("candidate", "data", "target", "behaviour")),
    # time and memory for the same records, candidate and champion in turn
    "speed": Measurement("measure-speed-v1", "1", ("candidate", "champion", "data", "target")),
    # the really started server at a stated rate: percentiles, errors, time to be ready, memory
    "load": Measurement("measure-load-v1", "1", ("candidate", "data", "target", "server", "load")),
    # the candidate's training rows against the requests that the environment's present release recorded
    "drift": Measurement("measure-drift-v1", "1", ("candidate", "traffic", "environment")),
    # the rows that the candidate was trained on, and those it is scored on, against the model's contract
    "contract": Measurement("measure-contract-v1", "1", ("candidate", "contract", "data", "target")),
    # the rows that the candidate was trained on, against the champion's
    "changes": Measurement("measure-changes-v1", "1", ("candidate", "champion", "keys")),
    # what the files alone say: interface, libraries, pins and hashes, code in pickles, types, size
    "files": Measurement("measure-files-v1", "1", ("candidate", "champion", "allowed")),
    # the requests that the environment's present release recorded, with its answers, asked of the candidate
    "replay": Measurement("measure-replay-v1", "1", ("candidate", "traffic", "environment")),
    # trained once more from the same code, data, hyperparameters and seed: is it the same model?
    "reproduce": Measurement("measure-reproduce-v1", "1", ("candidate", "data", "target", "task")),
}


class EvidenceBundle(Frozen):
    """The judged evidence of a release, as committed beside it: small, canonical, replayable offline.

    ``evidence`` maps measurement to the document; ``sources`` maps measurement to URI@sha256, the mark.
    """

    api_version: Literal["trueup.dev/v1"] = "trueup.dev/v1"
    kind: Literal["EvidenceBundle"] = "EvidenceBundle"
    candidate: Digest
    champion: Digest | None = None
    evidence: dict[Name, Evidence]
    sources: dict[Name, str] = Field(default_factory=dict)

    def to_text(self) -> str:
        return (
            json.dumps(
                json.loads(canonical_json(self)), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False
            )
            + "\n"
        )

    @property
    def digest(self) -> str:
        return sha256(self.to_text())
