"""What the step `register` writes about a search: an MLflow run for each trial, nested in the training's.

A run is found again by the number in its tag. A trial costs three calls, and none once its run has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from workflows.steps.trials import Record, Trial

TAG_TRIAL = "trueup.trial"
_PARENT = "mlflow.parentRunId"


def outcome(record: Record) -> dict[str, Any]:
    """What the version is told about its search: of :data:`reconciler.core.observed.TAG_SEARCH`."""
    best = record.chosen
    return {
        "method": record.search.method,
        "trial": best.number,
        "trials": len(record.trials),
        "metric": record.search.metric.name,
        "value": record.value(best),
        "hyperparameters": best.hyperparameters,
    }


def record_trials(client: MlflowClient, parent: Run, record: Record, *, seed: str) -> None:
    """A nested run for each trial that has none, FINISHED, FAILED, or KILLED where it was pruned."""
    there = _there(client, parent)
    for trial in record.trials:
        found = there.get(str(trial.number))
        if found is None or not _ended(found):
            _write(client, parent, record, trial, seed, found)


def _there(client: MlflowClient, parent: Run) -> dict[str, Run]:
    runs: dict[str, Run] = {}
    query, page = f"tags.`{_PARENT}` = '{parent.info.run_id}'", None
    while True:
        found = client.search_runs([parent.info.experiment_id], query, max_results=1000, page_token=page)
        runs |= {run.data.tags[TAG_TRIAL]: run for run in found if TAG_TRIAL in run.data.tags}
        page = found.token
        if not page:
            return runs


def _ended(run: Run) -> bool:
    return run.info.status in ("FINISHED", "FAILED", "KILLED")


def _write(
    client: MlflowClient, parent: Run, record: Record, trial: Trial, seed: str, begun: Run | None
) -> None:
    from mlflow.entities import Metric, Param, RunTag

    results = [result for result in trial.results if result.finished is not None]
    run = begun or client.create_run(
        parent.info.experiment_id,
        start_time=results[0].started if results else None,
        run_name=f"trial {trial.number}",
        tags={_PARENT: parent.info.run_id, TAG_TRIAL: str(trial.number)},
    )
    settings = {**record.settings(trial.number, stage=trial.last.stage), "seed": seed}
    chosen = "yes" if trial == record.chosen else "no"
    client.log_batch(
        run.info.run_id,
        metrics=[
            Metric(name, value, result.finished or 0, result.stage)
            for result in trial.results
            for name, value in result.metrics.items()
        ],
        params=[Param(name, str(value)) for name, value in settings.items()],
        tags=[RunTag("trueup.chosen", chosen), RunTag("trueup.message", trial.last.message)],
    )
    client.set_terminated(
        run.info.run_id, record.status(trial), end_time=results[-1].finished if results else None
    )
