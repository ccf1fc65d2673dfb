"""Step `changes`: what the candidate's training rows have, and lack, against the champion's.

By md5 first: of two that are equal nothing is fetched, and of two folders only the files that are not in both.
Those are read in chunks; of a row 16 bytes are kept. Numbers for the people who review, no judgement.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from reconciler.core.errors import TrueupError
from reconciler.core.evidence import Estimate, Metric, Scores
from workflows.model_files import registry_errors
from workflows.steps import measuring
from workflows.steps.data import Side
from workflows.steps.pointers import Tracked
from workflows.steps.reference import FILE
from workflows.steps.rows import read_chunks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

METRICS = ("added", "removed", "changed", "added-share", "removed-share", "changed-share")


def arguments(parser: argparse.ArgumentParser) -> None:
    measuring.arguments(parser, rows=False)
    parser.add_argument("--source", type=Path, required=True, help="the repository's files")
    parser.add_argument("--champion-version", required=True)
    parser.add_argument("--train-pointer", required=True, help="the .dvc file of the training rows")
    parser.add_argument("--candidate-md5", required=True, help="of its training rows; empty where nobody knows")
    parser.add_argument("--champion-md5", required=True)


def run(options: argparse.Namespace) -> None:
    inputs = measuring.parse_inputs("changes", options.inputs, key=options.key)
    metrics = compared(options, tuple(inputs["keys"]))
    measuring.publish("changes", metrics, inputs, options)


def compared(options: argparse.Namespace, keys: tuple[str, ...]) -> dict[str, Metric]:
    md5s = {"candidate": options.candidate_md5, "champion": options.champion_md5}
    unknown = [role for role, md5 in md5s.items() if not md5]
    if unknown:
        return nothing(f"the {' and the '.join(unknown)} does not say what it was trained on")
    rows = {
        role: rows_of(options.registered_name, version)
        for role, version in (("candidate", options.candidate_version), ("champion", options.champion_version))
    }
    if options.candidate_md5 == options.champion_md5:
        said = f"the same data, md5 {options.candidate_md5}: nothing was fetched"
        number = rows["candidate"] or rows["champion"]  # the same bytes have as many rows
        if number is None:
            said, number = f"{said}, and of rows nobody says how many; the sample is the one md5", 1
        return measure(Difference(0, 0, 0, said), number, number)
    with tempfile.TemporaryDirectory() as folder:
        sides = {
            role: Side.of(options.source, options.train_pointer, md5, Path(folder) / role / "data")
            for role, md5 in md5s.items()
        }
        kept = Counter(file.md5 for file in sides["champion"].files)
        kept &= Counter(file.md5 for file in sides["candidate"].files)
        hashed = {}
        for role, side in sides.items():
            others = without(side.files, Counter(kept))
            if others:
                side.bring(others, Path(folder) / role / "data")
            hashed[role] = hashes(Path(folder) / role / "data", [file.path for file in others], keys)
    difference = differ(hashed["candidate"], hashed["champion"], keyed=bool(keys))
    if kept:  # what was not read counts too
        said = f"{kept.total()} files are in both, and were not read"
        if None in rows.values():
            return nothing(f"{said}; of how many rows, the versions do not say")
    else:
        rows = {role: len(each.rows) for role, each in hashed.items()}
        said = ""
    difference = difference._replace(said="; ".join(filter(None, (said, difference.said))))
    return measure(difference, rows["candidate"] or 0, rows["champion"] or 0)


def without(files: list[Tracked], kept: Counter[str]) -> list[Tracked]:
    """The files beside those that the other side has as well, as often as it has them."""
    others = []
    for file in files:
        if kept[file.md5]:
            kept[file.md5] -= 1
        else:
            others.append(file)
    return others


def rows_of(name: str, version: str) -> int | None:
    """How many rows a version says that it was trained on (reference.json); None where it does not say."""
    import mlflow

    try:
        with registry_errors(f"{name}/{version}"), tempfile.TemporaryDirectory() as folder:
            source = mlflow.MlflowClient().get_model_version_download_uri(name, version)
            file = mlflow.artifacts.download_artifacts(artifact_uri=f"{source}/{FILE}", dst_path=folder)
            return int(json.loads(Path(file).read_text())["rows"])
    except (TrueupError, ValueError, KeyError, TypeError):
        return None


class Hashed(NamedTuple):
    """64 bits of each whole row, and of its keys where there are some."""

    rows: Hashes
    keys: Hashes
    columns: frozenset[str]


def hashes(folder: Path, paths: list[str], keys: tuple[str, ...]) -> Hashed:
    """Of every row of these files, as text and whatever the order of the columns."""
    import pandas as pd

    rows, of_keys, columns = [np.array([], np.uint64)], [np.array([], np.uint64)], frozenset[str]()
    for path in paths:
        for chunk in read_chunks(folder, path, str):
            texts = chunk.astype(str).fillna("")
            columns |= {*map(str, texts.columns)}
            names = sorted(map(str, texts.columns))
            rows.append(pd.util.hash_pandas_object(texts[names], index=False).to_numpy())
            there = [name for name in keys if name in texts]
            if there == list(keys) != []:
                of_keys.append(pd.util.hash_pandas_object(texts[there], index=False).to_numpy())
            elif keys:
                of_keys.append(rows[-1])  # a file without its keys: each row is its own
    return Hashed(np.concatenate(rows), np.concatenate(of_keys), columns)


class Difference(NamedTuple):
    """Rows only in the candidate's data, only in the champion's, and in both with other values."""

    added: int
    removed: int
    changed: int | None
    said: str = ""


def differ(candidate: Hashed, champion: Hashed, *, keyed: bool) -> Difference:
    """Rows that are equal cancel out, one by one; of the rest, two with equal keys are one that changed."""
    new = ~_matched(candidate.rows, champion.rows)
    old = ~_matched(champion.rows, candidate.rows)
    added, removed = int(new.sum()), int(old.sum())
    said = "; ".join(_columns(candidate.columns, champion.columns))
    if not keyed:
        return Difference(added, removed, None, said)
    changed = int(_matched(candidate.keys[new], champion.keys[old]).sum())
    return Difference(added - changed, removed - changed, changed, said)


def _matched(ours: Hashes, theirs: Hashes) -> NDArray[np.bool_]:
    """Which of ours have a partner of their own among theirs."""
    order, other = np.argsort(ours, kind="stable"), np.sort(theirs)
    sorted_ours = ours[order]
    occurrence = np.arange(len(ours)) - np.searchsorted(sorted_ours, sorted_ours, "left")
    number = np.searchsorted(other, sorted_ours, "right") - np.searchsorted(other, sorted_ours, "left")
    matched = np.zeros(len(ours), bool)
    matched[order] = occurrence < number
    return matched


def _columns(ours: frozenset[str], theirs: frozenset[str]) -> Iterator[str]:
    if ours and theirs:
        for word, names in (("new", ours - theirs), ("gone", theirs - ours)):
            if names:
                yield f"columns that are {word}: {', '.join(sorted(names)[:5])}"


def measure(difference: Difference, candidate: int, champion: int) -> dict[str, Metric]:
    """Rows; and as shares, of the champion's what was removed, of the candidate's what was added or changed.

    ``candidate``, ``champion``: how many rows they have.
    """
    counts = {"added": difference.added, "removed": difference.removed, "changed": difference.changed}
    said = "; ".join(filter(None, (difference.said, "every row was compared: no interval")))
    metrics = {}
    for name, count in counts.items():
        n = champion if name == "removed" else candidate
        note = said if count is not None else "the contract names no keys: a changed row is removed and added"
        for suffix, value in (("", count), ("-share", count / n if count is not None and n else None)):
            estimate = Estimate(value=None if value is None else float(value), n=n, note=note)
            metrics[f"{name}{suffix}"] = Metric(overall=Scores(candidate=estimate))
    return metrics


def nothing(why: str) -> dict[str, Metric]:
    empty = Metric(overall=Scores(candidate=Estimate(value=None, n=0, note=why)))
    return dict.fromkeys(METRICS, empty)
