"""What people read, as files in tests/snapshots/report. TRUEUP_UPDATE_SNAPSHOTS=1 rewrites them for review."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest

from reconciler.core.base import Subject
from reconciler.core.documents import Admission, Pin, Rejected, Release, VerifiedPin
from reconciler.core.evidence import Estimate, Evidence, EvidenceBundle, Metric, Scores
from reconciler.core.observed import (
    Approval,
    Check,
    Gap,
    Marker,
    ModelVersion,
    Pruned,
    PullRequest,
    RegisteredModel,
    RegistrySweep,
    VerifiedMark,
    WorkflowRun,
    verified_tag,
)
from reconciler.core.plan import (
    Action,
    ApplyManifests,
    Bound,
    ClosePullRequest,
    CollectWorkflows,
    FileChange,
    GateVerdict,
    Hold,
    MarkVersion,
    MergePullRequest,
    Message,
    MoveAlias,
    Objection,
    OpenPullRequest,
    Outcome,
    Plan,
    PruneWorkload,
    PublishChecks,
    ReadyPullRequest,
    RemoveAlias,
    StopWorkflow,
    SubmitWorkflow,
    Summary,
    Tell,
    UpdatePullRequest,
    Verdict,
)
from reconciler.core.problems import Problem
from reconciler.core.progress import Progress
from reconciler.core.serving import ServingSnapshot
from reconciler.report import (
    explain,
    gates,
    history,
    html,
    markdown,
    pull_request,
    pulls,
    status,
    text,
    verdicts,
)
from reconciler.report import json as json_report
from reconciler.report.actions import STYLES, SYMBOLS
from reconciler.report.layout import Block, columns, lay_out, plain

SNAPSHOTS = Path(__file__).parent.parent / "snapshots" / "report"
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
STAGING = Subject(environment="staging", model="digits")
PRODUCTION = Subject(environment="production", model="digits")
ONE, TWO, THREE = (f"sha256:{digit * 64}" for digit in "123")

THRESHOLD = Bound(at=0.9, good="above", of="threshold")
GATES = (
    GateVerdict(
        gate="accuracy",
        metric="evaluate.accuracy",
        verdict="pass",
        why="0.9722 >= 0.9",
        value=0.97222,
        n=360,
        low=0.9528,
        high=0.9861,
        champion=0.98056,
        asked=">= 0.9",
        bounds=(THRESHOLD,),
    ),
    GateVerdict(
        gate="no-worse",
        metric="evaluate.accuracy",
        verdict="block",
        why="0.9722 against the champion's 0.9806: difference -0.0083, interval [-0.0250, +0.0083], n 360; a "
        "drop of more than 0.01 cannot be ruled out",
        value=0.97222,
        n=360,
        low=-0.025,
        high=0.0083,
        champion=0.98056,
        asked="drop <= 0.01 against the champion",
        bounds=(Bound(at=0.97056, good="above", of="champion"),),
        paired=True,
    ),
    GateVerdict(
        gate="worst-hand",
        metric="evaluate.accuracy",
        verdict="review",
        why="hand=left: not 0.88 >= 0.9",
        value=0.88,
        n=41,
        champion=0.9,
        asked=">= 0.9",
        bounds=(THRESHOLD,),
        slice="hand=left",
    ),
)
FIRST_GATES = (
    GATES[0].model_copy(update={"champion": None}),
    GATES[1].model_copy(
        update={
            "champion": None,
            "verdict": "review",
            "why": "no champion to compare with",
            "low": 0.9528,
            "high": 0.9861,
            "bounds": (),
            "paired": False,
        }
    ),
)
REFUSED = Verdict(
    subject=PRODUCTION,
    grounds="promotion",
    gates=GATES,
    objections=(Objection(code="upstream-not-verified", what="version 2 is not what staging has verified"),),
    inputs=ONE,
)
DOUBTED = Verdict(subject=STAGING, grounds="promotion", gates=(GATES[0], GATES[2]), inputs=ONE)
ADMITTED = Verdict(subject=STAGING, grounds="promotion", gates=FIRST_GATES, inputs=TWO)
MARKER = Marker(intent="promote", environment="staging", model="digits", candidate=ONE, inputs=TWO)
SUMMARY = Summary(
    headline="Promote digits to version 1 in staging",
    intent="promote",
    environment="staging",
    model="digits",
    to_version="1",
    verdict=ADMITTED,
    merges="trueup merges it when one person other than its author has approved this head.",
    notes=("the model declares no baseline",),
    lineage={
        "training key": "3fa9c0d2e1b4",
        "training run": "train-digits-3fa9c0d2e1b4-1",
        "data": "md5:0a1b2c",
    },
    difference="""\
--- deployment.yaml
+++ deployment.yaml
@@ -1 +1 @@
-  value: "1"
+  value: "2\"""",
)


def opening(kind: type[OpenPullRequest], **more: object) -> OpenPullRequest:
    return kind.model_validate(
        {
            "key": "open-pull-request trueup/promote/staging/digits",
            "subject": STAGING,
            "reason": "every gate of policy staging has been asked, and none blocks version 1",
            "branch": "trueup/promote/staging/digits",
            "base": "a" * 40,
            "title": "digits: version 1 to staging",
            "summary": SUMMARY,
            "marker": MARKER,
            "files": (FileChange(path="environments/staging/releases/digits.yaml", content="x"),),
            **more,
        }
    )


ACTIONS: tuple[Action, ...] = (
    SubmitWorkflow(
        key="submit train-digits-3fa9c0d2e1b4-1",
        subject=Subject(model="digits"),
        reason="no version carries the training key of main, 3fa9c0d2e1b4",
        name="train-digits-3fa9c0d2e1b4-1",
        template="train-v1",
        commit="a" * 40,
        parameters={"model": "digits"},
        labels={},
        deadline=3600,
    ),
    opening(OpenPullRequest),
    MoveAlias(
        key="move-alias digits@production 2",
        subject=PRODUCTION,
        reason="version 2 was verified in production at 2026-03-01T11:59:00Z",
        registry="default",
        name="digits",
        alias="production",
        version="2",
        current="1",
    ),
    MarkVersion(
        key="mark-version digits/2 trueup.verified.production",
        subject=PRODUCTION,
        reason="healthy since 2026-03-01T11:49:00Z, for the 10m that production asks",
        registry="default",
        name="digits",
        version="2",
        tag="trueup.verified.production",
        value="x",
    ),
)
REST: tuple[Action, ...] = (
    opening(UpdatePullRequest, number=4, head="b" * 40, key="update 4"),
    MergePullRequest(
        key="merge 4",
        subject=STAGING,
        reason="r",
        number=4,
        branch="b",
        head="c" * 40,
        title="digits: version 1",
    ),
    ClosePullRequest(key="close 4", subject=STAGING, reason="r", number=4, branch="b", head="c" * 40),
    RemoveAlias(
        key="remove",
        subject=STAGING,
        reason="r",
        registry="default",
        name="digits",
        alias="staging",
        current="1",
    ),
    ApplyManifests(
        key="apply",
        subject=STAGING,
        reason="r",
        cluster="local",
        namespace="models",
        release=ONE,
        manifests={"deployment.yaml": "", "service.yaml": ""},
    ),
    PruneWorkload(
        key="prune",
        subject=STAGING,
        reason="r",
        cluster="local",
        namespace="models",
        environment="staging",
        model="digits",
        objects=("Deployment/digits", "Service/digits"),
    ),
    Tell(
        key="tell",
        subject=STAGING,
        reason="r",
        notifier="default",
        message=Message(event="outage", subject=STAGING, title="digits is unhealthy in staging", reason="r"),
    ),
    ReadyPullRequest(key="ready", subject=STAGING, reason="r", number=4, head="c" * 40),
    PublishChecks(
        key="publish",
        subject=STAGING,
        reason="r",
        number=4,
        head="c" * 40,
        checks=(
            Check(name="trueup/accuracy", state="success"),
            Check(name="trueup/admission", state="pending"),
        ),
    ),
    StopWorkflow(key="stop", subject=STAGING, reason="r", name="train-digits-4b227777d4dd-1"),
    CollectWorkflows(key="collect", subject=STAGING, reason="r", names=("train-digits-4b227777d4dd-1", "b")),
)
PLAN = Plan(
    revision="0123456789abcdef0123456789abcdef01234567",
    at=AT,
    actions=ACTIONS,
    holds=(
        Hold(
            code="gate-failed",
            subject=PRODUCTION,
            reason="version 3 fails gate no-worse; train a better one, or waive the gate for this candidate",
            person=True,
            verdict=REFUSED,
        ),
        Hold(
            code="soaking",
            subject=STAGING,
            reason="healthy since 2026-03-01T11:55:00Z; verified at 12:05 at the earliest",
        ),
    ),
    gaps=(Gap(source="registry archive", error="connection refused"),),
    tripped=("deletes in staging: 5 prunes, and the limit is 3",),
    subjects=3,
)
PROBLEM = Problem(path="models/fraud/model.yaml", line=3, what="owner is missing", hint="name whom people ask")
QUIET = PLAN.model_copy(update={"actions": (), "holds": (), "gaps": (), "tripped": ()})
OUTCOMES = (
    Outcome(key=ACTIONS[0].key, kind=ACTIONS[0].kind, subject=ACTIONS[0].subject, result="done"),
    Outcome(key=ACTIONS[1].key, kind=ACTIONS[1].kind, subject=ACTIONS[1].subject, result="already"),
    Outcome(
        key=ACTIONS[2].key,
        kind=ACTIONS[2].kind,
        subject=PRODUCTION,
        result="failed",
        detail="registry default: timed out",
        retryable=True,
    ),
    Outcome(
        key=ACTIONS[3].key,
        kind=ACTIONS[3].kind,
        subject=PRODUCTION,
        result="skipped",
        detail="an action before failed",
    ),
)


def unstyled(page: str) -> str:
    """A page without its stylesheet, which is one of all pages, and the digest of it."""
    return re.sub(r"'sha256-[^']+'", "'...'", re.sub(r"(?s)(<style>).*(</style>)", r"\1...\2", page))


def folded(blocks: list[Block], width: int) -> str:
    return "".join("".join(span.text for span in line).rstrip() + "\n" for line in lay_out(blocks, width))


def release(version: str, digest: str, **more: object) -> Release:
    return Release.model_validate(
        {
            "kind": "Release",
            "pin": Pin(registry="default", name="digits", version=version, digest=digest),
            "image": f"trueup/server@{ONE}",
            "serving": ServingSnapshot(),
            "renderer": "deployment/v1",
            "admission": Admission(grounds="promotion", judged_at=AT, policy=ONE, evidence=TWO),
            **more,
        }
    )


FIRST, SECOND = release("1", ONE), release("2", TWO)
BACK = release(
    "1",
    ONE,
    admission=Admission(grounds="rollback", judged_at=LATER, reason="version 2 was unhealthy"),
    champion=VerifiedPin(version="1", digest=ONE, release=FIRST.digest, at=AT),
    rejected=(Rejected(digest=TWO, version="2", reason="unhealthy since 2026-03-02T09:00:00Z", since=LATER),),
)
BUNDLE = EvidenceBundle(
    candidate=ONE,
    evidence={
        "evaluate": Evidence(
            measurement="evaluate",
            recipe="1",
            key="0" * 12,
            inputs={"candidate": ONE},
            at=AT,
            metrics={
                "accuracy": Metric(
                    overall=Scores(
                        candidate=Estimate(value=0.97222, n=360, low=0.9528, high=0.9861, confidence=0.95)
                    )
                )
            },
        )
    },
    sources={"evaluate": f"mlflow-artifacts:/1/evidence.json@{THREE}"},
)
CHANGES = (
    history.Change("c" * 40, LATER, "trueup", BACK),
    history.Change("b" * 40, datetime(2026, 3, 2, 8, 0, tzinfo=UTC), "trueup", SECOND, BUNDLE),
    history.Change("a" * 40, AT, "Ada", FIRST, BUNDLE),
)
REGISTRY = RegistrySweep(
    models={
        "digits": RegisteredModel(
            pruned={"2": Pruned(at=LATER, by="Ada", listed=THREE)},
            versions=(
                ModelVersion(
                    version="1",
                    created=AT,
                    tags={
                        "trueup.digest": ONE,
                        verified_tag("production"): str(
                            VerifiedMark(release=FIRST.digest, at=AT.replace(hour=13))
                        ),
                    },
                ),
            ),
        )
    }
)
ENTRIES = history.entries(CHANGES, {"a" * 40: 2, "b" * 40: 5, "c" * 40: 7}, {"default": REGISTRY}, "production")

ROWS = (
    status.Row(
        model="digits",
        environment="staging",
        version="2",
        digest=TWO,
        release=SECOND.digest,
        state="verified",
        since=AT,
        verified_at=AT,
        endpoint="http://127.0.0.1:40001",
        alias="staging",
        alias_version="2",
    ),
    status.Row(
        model="digits",
        environment="production",
        version="1",
        digest=ONE,
        release=FIRST.digest,
        state="soaking",
        since=LATER,
        alias="production",
        why_not=(
            status.Reason(
                code="awaiting-approval",
                what="pull request 4 waits for 1 approval: reconcile pr approve 4",
                person=True,
            ),
        ),
    ),
    status.Row(model="fraud", environment="staging", state="none"),
)
TRAININGS = (
    status.Row(model="digits", environment="", version="3", digest=THREE, state="trained", since=LATER),
    status.Row(
        model="fraud",
        environment="",
        state="training",
        since=LATER,
        why_not=(status.Reason(code="training", what="train-fraud-3fa9c0d2e1b4-1 is running, 1/3"),),
    ),
)
RUN = WorkflowRun(name="train-fraud-3fa9c0d2e1b4-1", phase="Running", started=LATER, progress="1/3")
MATRIX = status.Matrix(
    at=LATER.replace(hour=11),
    rows=(TRAININGS[0], ROWS[0], ROWS[1], TRAININGS[1], ROWS[2]),
    environments=("staging", "production"),
    running=(
        status.Running(
            run=RUN,
            progress=(
                Progress(step="train", epoch=3, of=6, loss=0.1213, elapsed=14.2),
                Progress(step="trial", trial=7, epoch=1, elapsed=2.0),
            ),
        ),
    ),
    gaps=(Gap(source="forge", error="timed out"),),
)
PULL = PullRequest(
    number=4,
    state="open",
    branch="trueup/promote/staging/digits",
    head="b" * 40,
    title="digits: version 1 to staging",
    author="trueup",
    ours=True,
    body=pull_request.body(SUMMARY, MARKER),
    marker=MARKER,
    approvals=(Approval(by="Ada", head="b" * 40, at=AT), Approval(by="Old", head="a" * 40, at=AT)),
    opened=AT,
)
EXPLAINED = explain.Explanation(
    row=ROWS[1],
    policy="production",
    judged=(explain.Judged(about="candidate", version="3", digest=THREE, judged_at=AT, verdict=REFUSED),),
    holds=(PLAN.holds[0],),
)
AT_REST = explain.Explanation(
    row=ROWS[1].model_copy(update={"state": "verified", "since": AT, "why_not": ()}),
    policy="production",
    coming=(
        explain.Coming(
            environment="staging",
            version="2",
            pinned=True,
            by=("staging",),
            then="production",
            why_not=(
                status.Reason(
                    code="soaking", what="version 2 is healthy; it is verified at 2026-03-01T12:05:00Z"
                ),
            ),
        ),
        explain.Coming(
            environment="canary", version="3", pinned=False, by=("canary", "shadow"), then="staging", why_not=()
        ),
    ),
)

MEASURED = {
    "evaluate": ("accuracy", "auc", "f1-macro", "log-loss", "calibration", "fairness"),
    "speed": ("p95", "ratio", "start-up", "memory"),
    "drift": ("psi-max", "psi-prediction"),
    "files": ("signature", "unpinned", "pickles", "size"),
    "behaviour": ("invariance", "direction", "minimum"),
    "parity": ("agreement",),
}
MANY = REFUSED.model_copy(
    update={
        "gates": (
            GATES[0],
            GATES[1].model_copy(update={"detectable": 0.0123}),
            *GATES[2:],
            *(
                GATES[0].model_copy(
                    update={
                        "gate": name,
                        "metric": f"{measurement}.{name}",
                        "verdict": {"p95": "block", "psi-max": "review"}.get(name, "pass"),
                        "why": f"{name} is what it is",
                    }
                )
                for measurement, names in MEASURED.items()
                for name in names
            ),
        ),
        "objections": (),
    }
)
EXPLAINED_MANY = EXPLAINED.model_copy(
    update={"judged": (EXPLAINED.judged[0].model_copy(update={"verdict": MANY}),), "holds": ()}
)

DIFF = """\
diff --git a/environments/staging/rendered/digits/deployment.yaml b/environments/staging/rendered/...
index 1..2 100644
--- a/environments/staging/rendered/digits/deployment.yaml
+++ b/environments/staging/rendered/digits/deployment.yaml
@@ -1,2 +1,2 @@
 kind: Deployment
-  replicas: 1
+  replicas: 2
"""

CASES = {
    "plan.txt": lambda: plain(text.plan(PLAN)),
    "plan-60.txt": lambda: folded(text.plan(PLAN), 60),
    "plan.md": lambda: markdown.plan(PLAN),
    "plan.html": lambda: unstyled(html.plan(PLAN)),
    "applied.html": lambda: unstyled(
        html.plan(PLAN.model_copy(update={"problems": (PROBLEM,)}), OUTCOMES, 4990)
    ),
    "plan.json": lambda: json_report.plan(PLAN),
    "applied.txt": lambda: plain(text.plan(PLAN, OUTCOMES)),
    "applied.md": lambda: markdown.plan(PLAN, OUTCOMES),
    "quiet.txt": lambda: plain(text.plan(QUIET, ())),
    "kinds.txt": lambda: plain(text.plan(PLAN.model_copy(update={"actions": REST, "holds": ()}))),
    "pull-request.md": lambda: pull_request.body(SUMMARY, MARKER) + "\n",
    "pull-request-review.md": lambda: (
        pull_request.body(
            SUMMARY.model_copy(update={"from_version": "1", "to_version": "3", "verdict": DOUBTED}), MARKER
        )
        + "\n"
    ),
    "pull-request-removal.md": lambda: (
        pull_request.body(
            SUMMARY.model_copy(
                update={
                    "intent": "remove",
                    "from_version": "1",
                    "to_version": "",
                    "lineage": {},
                    "verdict": Verdict(
                        subject=STAGING,
                        grounds="removal",
                        objections=(Objection(code="removal", what="a person decides", verdict="review"),),
                    ),
                }
            ),
            MARKER.model_copy(update={"candidate": "none", "intent": "remove"}),
        )
        + "\n"
    ),
    "verdicts.txt": lambda: plain(verdicts.blocks([REFUSED, ADMITTED])),
    "verdicts-60.txt": lambda: folded(verdicts.blocks([REFUSED, ADMITTED]), 60),
    "verdicts.json": lambda: verdicts.as_json([REFUSED]),
    "status.txt": lambda: plain(status.blocks(MATRIX)),
    "status-60.txt": lambda: folded(status.blocks(MATRIX, ages=True), 60),
    "status-80.txt": lambda: folded(status.blocks(MATRIX, ages=True), 80),
    "status-200.txt": lambda: folded(status.blocks(MATRIX, ages=True), 200),
    "status.json": lambda: json_report.rows(MATRIX.rows),
    "history.txt": lambda: plain(history.blocks(ENTRIES, PRODUCTION)),
    "history-60.txt": lambda: folded(history.blocks(ENTRIES, PRODUCTION), 60),
    "history-at.txt": lambda: plain(history.details(ENTRIES[1], PRODUCTION, LATER)),
    "history.json": lambda: json_report.rows(ENTRIES),
    "explain.txt": lambda: plain(explain.blocks(EXPLAINED)),
    "explain-60.txt": lambda: folded(explain.blocks(EXPLAINED), 60),
    "explain-200.txt": lambda: folded(explain.blocks(EXPLAINED), 200),
    "explain-80.txt": lambda: folded(explain.blocks(EXPLAINED), 80),
    "explain-many-80.txt": lambda: folded(explain.blocks(EXPLAINED_MANY), 80),
    "explain-many-200.txt": lambda: folded(explain.blocks(EXPLAINED_MANY), 200),
    "explain-at-rest.txt": lambda: plain(explain.blocks(AT_REST)),
    "pulls.txt": lambda: plain(pulls.table([PULL])),
    "pull.txt": lambda: plain([*pulls.head(PULL), *pulls.difference(DIFF)]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_people_read(name: str) -> None:
    made, path = CASES[name](), SNAPSHOTS / name
    if os.environ.get("TRUEUP_UPDATE_SNAPSHOTS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made)
    assert made == path.read_text(), "read the difference; TRUEUP_UPDATE_SNAPSHOTS=1 rewrites the file"


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("-60.txt")])
def test_narrow_text_fits_unless_a_word_does_not(name: str) -> None:
    long = [line for line in CASES[name]().splitlines() if len(line) > 60]
    assert [line for line in long if max(len(word) for word in line.split()) < 40] == []


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_drawing_hides_no_number_and_fits(width: int) -> None:
    said = folded(explain.blocks(EXPLAINED), width)
    for gate in GATES:
        for shown in (gates.number(gate.value), gates.number(gate.champion), gates.interval(gate), str(gate.n)):
            assert shown in said
    drawn = [line for line in said.splitlines() if "┈" in line]
    assert len(drawn) == len(GATES)
    assert max(columns(line) for line in drawn) <= width


def test_every_kind_of_action_has_a_symbol_and_a_line() -> None:
    kinds = {kind.model_fields["kind"].default for kind in get_args(get_args(Action)[0])}
    assert kinds == set(SYMBOLS) == {action.kind for action in ACTIONS + REST}
    assert set(SYMBOLS.values()) == set(STYLES)


def test_the_plan_survives_its_json() -> None:
    document = json.loads(json_report.plan(PLAN, OUTCOMES))
    assert Plan.model_validate(document["plan"]) == PLAN
    assert document["digest"] == Plan.model_validate(document["plan"]).digest
    assert [outcome["result"] for outcome in document["outcomes"]] == ["done", "already", "failed", "skipped"]
    assert json.loads(json_report.plan_line(PLAN)) == document | {"outcomes": None}
    assert json_report.plan_line(PLAN).count("\n") == 1


def test_what_the_forge_still_allows_is_said_where_it_counts() -> None:
    said = "The forge allows 4990 more calls in its present window.\n"
    assert plain(text.plan(PLAN, OUTCOMES, 4990)) == plain(text.plan(PLAN, OUTCOMES)) + said
    assert markdown.plan(PLAN, None, 4990) == f"{markdown.plan(PLAN)}\n{said}"
    assert json.loads(json_report.plan(PLAN, None, 0))["forgeCallsLeft"] == 0
    assert "forgeCallsLeft" not in json.loads(json_report.plan(PLAN))


def test_nothing_of_a_plain_plan_is_padded_or_coloured() -> None:
    lines = plain(text.plan(PLAN, OUTCOMES)).splitlines()
    assert not [line for line in lines if line != line.rstrip() or "\x1b" in line]


def test_history_tells_failed_from_later_releases_and_verified_from_marks() -> None:
    assert [(entry.version, entry.result) for entry in ENTRIES] == [
        ("1", "verified"),
        ("2", "failed"),
        ("1", "verified"),
    ]
    assert ENTRIES[1].failed_at == LATER
    assert [entry.pull_request for entry in ENTRIES] == [7, 5, 2]
    without_registry = history.entries(CHANGES, {}, {}, "production")
    assert without_registry[2].verified_at == AT, "the copy in a later Release outlives the registry"
    assert [entry.result for entry in without_registry][1] == "failed"


def test_history_at_an_instant_is_the_release_that_main_had_then() -> None:
    assert history.in_effect(ENTRIES, AT) == ENTRIES[2]
    assert history.in_effect(ENTRIES, LATER.replace(hour=8, minute=30)) == ENTRIES[1]
    assert history.in_effect(ENTRIES, AT.replace(hour=11)) is None


def test_history_ignores_commits_that_leave_the_release_as_it_is() -> None:
    touched = history.Change("d" * 40, LATER, "Ada", FIRST.model_copy(update={"rejected": BACK.rejected}))
    assert len(history.entries((touched, CHANGES[2]), {}, {}, "production")) == 1


def test_a_removed_release_is_an_entry() -> None:
    gone = history.Change("d" * 40, LATER, "Ada", None)
    entries = history.entries((gone, CHANGES[2]), {}, {}, "production")
    assert (entries[0].result, entries[0].version, entries[1].until) == ("removed", None, LATER)


def test_a_difference_is_in_the_digest_only_if_it_is_in_what_is_done() -> None:
    assert text.summary(PLAN).spans[-1].text.endswith(PLAN.digest[7:19])
