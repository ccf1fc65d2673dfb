"""How often a gate objects to a version that is as good as the one before it: trained again by another seed."""

from __future__ import annotations

import socket
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from reconciler.core.observed import ModelVersion
from reconciler.core.plan import GateVerdict
from reconciler.planning.judge import measurements
from tests.gates.workbench import Workbench

TITLE = "False alarms"
SEEDS = {"digits": 20, "flight-delay": 5}
REQUESTS = 2000
TRAFFIC = f"sha256:{'e' * 64}"
METHOD = """\
Each example is trained again by other seeds. Nothing else changes, so every gate should pass. The version of the shipped seed is the
champion, and serves; it is asked about 2,000 evaluation rows, some of `digits` more than once, and records them. All measurements of a
version run at the same time, as after a tick, and are judged by the shipped policy of production. An alarm is a gate that does not pass; the
value is that of the gate, of all versions. The second table has what one measurement takes when it is the only one."""


def measure(seeds: dict[str, int] = SEEDS) -> str:
    rows = [
        "| gate | metric | asks | versions | alarms | values, smallest, median, largest |",
        "|---|---|---|---|---|---|",
    ]
    asked: Counter[tuple[str, str]] = Counter()
    alarms: Counter[tuple[str, str]] = Counter()
    values: dict[tuple[str, str], list[float]] = {}
    said: dict[tuple[str, str], str] = {}
    costs: dict[str, dict[str, float]] = {}
    for model, number in seeds.items():
        with tempfile.TemporaryDirectory() as home:
            bench = Workbench(Path(home), model).edited(record)
            champion = bench.train()
            with serving(bench, champion) as recorded:
                costs[model] = alone(bench, bench.train(seed=str(number + 1)), champion, recorded)
                for seed in range(1, number + 1):
                    candidate = bench.train(seed=str(seed))
                    assert candidate.digest != champion.digest
                    for verdict in judged(bench, candidate, champion, recorded):
                        gate = (verdict.gate, verdict.metric)
                        asked[gate] += 1
                        alarms[gate] += verdict.verdict != "pass"
                        said[gate] = verdict.asked
                        if verdict.verdict != "pass":
                            print(f"{model} by seed {seed}: {verdict.gate}: {verdict.why}", flush=True)
                        if verdict.value is not None:
                            values.setdefault(gate, []).append(verdict.value)
    for gate, number in asked.items():
        name, metric = gate
        seen = values.get(gate)
        shown = f"{min(seen):.4g}, {median(seen):.4g}, {max(seen):.4g}" if seen else ""
        rows.append(f"| {name} | `{metric}` | {said[gate]} | {number} | **{alarms[gate]}** | {shown} |")
    rows += ["", f"| measurement, alone, in seconds | {' | '.join(costs)} |", f"|---|{'---|' * len(costs)}"]
    for name in sorted({name for each in costs.values() for name in each}):
        shown = (f"{each[name]:.0f}" if name in each else "" for each in costs.values())
        rows.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(rows)


def alone(bench: Workbench, candidate: ModelVersion, champion: ModelVersion, recorded: str) -> dict[str, float]:
    """Seconds that each measurement takes, one after the other: its run as a whole, the engine's part too."""
    taken = {}
    for name in asked_of(bench, candidate, champion):
        begun = time.monotonic()
        bench.measured([name], candidate, champion, recorded=recorded, traffic=TRAFFIC)
        taken[name] = time.monotonic() - begun
    return taken


def judged(
    bench: Workbench, candidate: ModelVersion, champion: ModelVersion, recorded: str
) -> Collection[GateVerdict]:
    """Verdicts of production's policy, every measurement of it made anew."""
    names = asked_of(bench, candidate, champion)
    evidence = bench.measured(names, candidate, champion, recorded=recorded, traffic=TRAFFIC)
    return bench.judged(evidence, candidate, champion, traffic=TRAFFIC).values()


def asked_of(bench: Workbench, candidate: ModelVersion, champion: ModelVersion) -> tuple[str, ...]:
    """The measurements that production's policy asks for."""
    desired = bench.desired
    policy = desired.policies[desired.environments["production"].policy]
    return measurements(policy, bench.case(candidate, champion, traffic=TRAFFIC))


def record(folder: Path) -> None:
    """Models that do not record requests do so here."""
    document = folder / "model.yaml"
    if "\nmonitoring:" not in (text := document.read_text()):
        document.write_text(f"{text}monitoring:\n  record: {{sample: 1, rows: 20000}}\n")


@contextmanager
def serving(bench: Workbench, version: ModelVersion) -> Iterator[str]:
    """The address at which a server of this version tells what it recorded: the evaluation rows."""
    import pandas as pd

    from workflows.steps.parity import ask, running_server
    from workflows.steps.rows import split_target

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = bench.desired.models[bench.model].model
    environment = {
        **bench.environment,
        "TRUEUP_MODEL_NAME": bench.model,
        "TRUEUP_MODEL_VERSION": version.version,
        "TRUEUP_MODEL_DIGEST": str(version.digest),
        "TRUEUP_MODEL_URI": f"models:/{bench.model}/{version.version}",
        "TRUEUP_RECORD_SAMPLE": "1",
        "TRUEUP_RELEASE": TRAFFIC,
        "RECORDED_PORT": str(port),
    }
    rows, _ = split_target(pd.read_csv(bench.rows("evaluation")), model.data.evaluation.target)
    with running_server(environment) as address:
        answer = ask(address, pd.concat([rows] * -(-REQUESTS // len(rows)), ignore_index=True).head(REQUESTS))
        assert not isinstance(answer, str), answer
        yield f"http://127.0.0.1:{port}"
