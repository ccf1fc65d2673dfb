"""Ask a model server about one row of a CSV file, in MLflow's format: `python ask.py URL FILE --row N`."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

SHADES = " .:-=+*#@"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("file", type=Path)
    parser.add_argument("--row", type=int, default=0)
    arguments = parser.parse_args()
    with arguments.file.open(newline="") as file:
        row = list(csv.DictReader(file))[arguments.row]
    version = call(f"{arguments.url}/version")["version"]
    print(digit(arguments.url, row, version) if "label" in row else flight(arguments.url, row, version))


def digit(url: str, row: dict[str, str], version: str) -> str:
    """The scan, and what the server reads."""
    pixels = {name: int(value) for name, value in row.items() if name.startswith("pixel_")}
    answer = ask(url, [pixels])[0]
    shades = [SHADES[ink // 2] for ink in pixels.values()]
    scan = [" ".join(("   ", *shades[8 * line : 8 * line + 8])) for line in range(8)]
    return "\n".join([*scan, f"version {version} reads {answer['prediction']}; it is {row['label']}"])


def flight(url: str, row: dict[str, str], version: str) -> str:
    """The flight, and how likely the server calls it late."""
    answer = ask(url, [features(row)])[0]
    when = f"{row['date']} {int(row['hour']):02}:{int(row['minute']):02}"
    late = "did not arrive on time" if row["late"] == "1" else "arrived on time"
    said = f"late with a probability of {answer['probability_1']:.2f}"
    return (
        f"{row['carrier']}, {row['origin']} to {row['dest']}, {when}: version {version} says {said}; it {late}"
    )


def features(row: dict[str, str]) -> dict[str, str | float | None]:
    """A flight's row as JSON: numbers as numbers, and null where a value is missing."""
    texts = ("carrier", "origin", "dest")
    known = {name: value for name, value in row.items() if name not in ("date", "late")}
    return {name: value if name in texts else float(value) if value else None for name, value in known.items()}


def ask(url: str, rows: list[Any]) -> list[Any]:
    predictions: list[Any] = call(f"{url}/invocations", {"dataframe_records": rows})["predictions"]
    return predictions


def call(url: str, body: Any = None) -> Any:
    """GET, or POST where there is a body; the JSON that comes back."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data=data, headers={"Content-Type": "application/json"})  # noqa: S310 - a local server
    with urlopen(request, timeout=30) as response:  # noqa: S310
        return json.load(response)


if __name__ == "__main__":
    main()
