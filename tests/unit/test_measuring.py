"""What a measurement waits for before it is submitted, and where its mark goes."""

from __future__ import annotations

import json
from typing import Any

from reconciler.core.documents import External
from reconciler.core.evidence import CATALOGUE, Estimate, Evidence, Metric, Scores
from reconciler.core.observed import TAG_INPUTS
from reconciler.core.plan import SubmitWorkflow
from reconciler.planning.candidates import Candidate, candidate
from reconciler.planning.judge import case_of
from reconciler.planning.measuring import plan_measuring, submit_measurement
from reconciler.planning.promotion import promotion_wish
from reconciler.planning.view import View
from tests.stories.build import HERE, Story, subject_of

STAGING = subject_of("staging/digits")


def measured(story: str, **version: Any) -> Any:
    """What is done to measure the story's candidate, with these fields of its version changed."""
    told = Story(HERE / story)
    view = View(told.main, told.observed())
    wanted = candidate(view, STAGING)
    assert isinstance(wanted, Candidate)
    wanted = wanted._replace(version=wanted.version.model_copy(update=version))
    return plan_measuring(view, STAGING, wanted)


def test_a_version_is_measured_once_its_files_are_there() -> None:
    submitted = measured("measurement-submitted")
    assert [action.kind for action in submitted.decision.actions] == ["submit-workflow"]
    waiting = measured("measurement-submitted", ready=False)
    assert (waiting.complete, waiting.decision.actions) == (False, ())
    assert [hold.code for hold in waiting.decision.holds] == ["measuring"]


def test_a_later_mark_stands_beside_the_first() -> None:
    (mark,) = measured("evidence-marked").decision.actions
    before = "runs:/before/evidence.json@sha256:" + "7" * 64
    (again,) = measured("evidence-marked", tags={mark.tag: before}).decision.actions
    assert (again.tag, again.value) == (f"{mark.tag}.2", mark.value)
    both = {mark.tag: before, again.tag: mark.value}
    assert measured("evidence-marked", tags=both).decision.actions == ()


def rows_asked_for(measurement: str, *, external: bool = False, **tags: str) -> dict[str, str]:
    """Which training rows the step gets; ``tags`` are those of the candidate."""
    told = Story(HERE / "measurement-submitted")
    desired = told.main
    if external:
        source = desired.models["digits"]
        training = source.model.training.model_copy(
            update={"workflow": None, "external": External(alias="next")}
        )
        model = source.model.model_copy(update={"training": training})
        changed = {**desired.models, "digits": source.model_copy(update={"model": model})}
        desired = desired.model_copy(update={"models": changed})
    view = View(desired, told.observed())
    wanted = candidate(View(told.main, told.observed()), STAGING)
    assert isinstance(wanted, Candidate)
    wanted = wanted._replace(
        version=wanted.version.model_copy(update={"tags": {**wanted.version.tags, **tags}})
    )
    case = case_of(desired, STAGING, wanted.pin, wanted.image, None)
    step = submit_measurement(view, STAGING, wanted, None, case, measurement, 1, "for a test")
    assert isinstance(step, SubmitWorkflow)
    return {name: value for name, value in step.parameters.items() if name.endswith(("md5", "train-pointer"))}


def test_the_rows_a_candidate_was_trained_on_are_asked_for_by_its_own_md5() -> None:
    """Main's pointer may say another by now."""
    tags = {TAG_INPUTS: json.dumps({"data": "9" * 32})}
    pointer = "models/digits/data/train.csv.dvc"
    assert rows_asked_for("contract", **tags) == {"train-pointer": pointer, "train-md5": "9" * 32}
    assert rows_asked_for("contract", **{TAG_INPUTS: "{}"}) == {"train-pointer": pointer, "train-md5": ""}
    assert rows_asked_for("changes", **tags)["champion-md5"] == ""


def test_of_a_model_trained_elsewhere_no_training_rows_are_asked_for() -> None:
    tags = {TAG_INPUTS: json.dumps({"data": "9" * 32})}
    assert rows_asked_for("contract", external=True, **tags) == {"train-pointer": "", "train-md5": ""}


def test_a_pull_request_names_the_libraries_that_are_not_the_champions() -> None:
    told = Story(HERE / "promotion-opened")
    view = View(told.main, told.observed())
    wanted = candidate(view, STAGING)
    assert isinstance(wanted, Candidate)
    found = plan_measuring(view, STAGING, wanted)
    case = case_of(view.desired, STAGING, wanted.pin, wanted.image, view.champion(STAGING))

    def notes(changed: Estimate) -> tuple[str, ...]:
        files = Evidence(
            measurement="files",
            recipe=CATALOGUE["files"].recipe,
            key=case.key("files"),
            inputs=dict(case.inputs("files")),
            at=view.at,
            metrics={"changed-libraries": Metric(overall=Scores(candidate=changed))},
        )
        measured = found._replace(evidence={**found.evidence, "files": files})
        return promotion_wish(view, STAGING, wanted, measured).notes

    assert notes(Estimate(value=2, n=40, names=("numpy 2.1 -> 2.2",))) == (
        "Libraries that are not the champion's: numpy 2.1 -> 2.2 and 1 more",
    )
    assert notes(Estimate(value=0, n=40)) == notes(Estimate(value=None, n=0, note="no champion")) == ()
