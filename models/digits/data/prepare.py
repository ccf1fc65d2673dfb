"""Writes train.csv and evaluation.csv from the digit scans that scikit-learn ships, byte for byte the same.

The scans are the test part of the UCI "Optical Recognition of Handwritten Digits" set: 1,797 digits of 13
people, 8 by 8 pixels of ink from 0 to 16, in the order in which they were collected. They are not shuffled:
the first 997 train and the last 800 evaluate, so that most of the evaluation is in hands that training never
saw. `ink` says how much ink a digit has (tertiles of the training rows): thin strokes and thick ones fail
differently. Run as `python models/digits/data/prepare.py [FOLDER]`, then `dvc add` what it wrote.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

TRAIN_ROWS = 997
INK = {"light": 297.0, "medium": 331.0, "heavy": float("inf")}
"""Band -> total ink below which a digit is in it."""


def scans() -> pd.DataFrame:
    """All rows: pixel_00 to pixel_63 (row by row, whole numbers 0 to 16), ink, label (0 to 9)."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    frame = pd.DataFrame(bundle.data.astype(int), columns=[f"pixel_{i:02d}" for i in range(64)])
    total = frame.sum(axis=1)
    frame["ink"] = pd.cut(total, [-1.0, *INK.values()], labels=list(INK), right=False).astype(str)
    frame["label"] = bundle.target
    return frame


def write(folder: Path) -> None:
    frame = scans()
    for name, rows in (("train", frame[:TRAIN_ROWS]), ("evaluation", frame[TRAIN_ROWS:])):
        rows.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
