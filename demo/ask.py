"""Ask a model server about a row of a CSV file, in MLflow's format: `python ask.py URL FILE --row N`.

With `--replay N` about N flights of the file, evenly spread, as if they were asked about one after the other.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

SHADES = " .:-=+*#@"
BATCH = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("file", type=Path)
    parser.add_argument("--row", type=int, default=0)
    parser.add_argument("--replay", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    with arguments.file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    row, version = rows[arguments.row], call(f"{arguments.url}/version")["version"]
    if arguments.replay:
        print(
            replay(arguments.url, rows[:: max(1, len(rows) // arguments.replay)][: arguments.replay], version)
        )
        return
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


def replay(url: str, rows: list[dict[str, str]], version: str) -> str:
    """How many of these flights the server calls late, and how many were."""
    asked = [features(row) for row in rows]
    answers = [
        answer for start in range(0, len(asked), BATCH) for answer in ask(url, asked[start : start + BATCH])
    ]
    called, were = sum(answer["prediction"] for answer in answers), sum(row["late"] == "1" for row in rows)
    return f"{len(rows)} flights: version {version} calls {called} late; {were} were"


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
