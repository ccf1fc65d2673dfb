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
    pixels = {name: int(value) for name, value in row.items() if name.startswith("pixel_")}
    answer = call(f"{arguments.url}/invocations", {"dataframe_records": [pixels]})["predictions"][0]
    version = call(f"{arguments.url}/version")["version"]
    shades = [SHADES[ink // 2] for ink in pixels.values()]
    for line in range(8):
        print("   ", *shades[8 * line : 8 * line + 8])
    print(f"version {version} reads {answer['prediction']}; it is {row['label']}")


def call(url: str, body: Any = None) -> Any:
    """GET, or POST where there is a body; the JSON that comes back."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data=data, headers={"Content-Type": "application/json"})  # noqa: S310 - a local server
    with urlopen(request, timeout=30) as response:  # noqa: S310
        return json.load(response)


if __name__ == "__main__":
    main()
