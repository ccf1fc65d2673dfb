"""docs/benchmarks.md has what each bench measured, and a bench says what it is about."""

from __future__ import annotations

import re

import pytest

from tests.bench import data
from tests.bench.__main__ import BENCHES, PAGE, machine, put, section


@pytest.mark.parametrize("name", BENCHES)
def test_every_bench_has_its_section(name: str) -> None:
    text = PAGE.read_text()
    found = re.search(rf"^<!-- bench {name} -->\n(.*)^<!-- end of bench {name} -->\n", text, re.M | re.S)
    assert found is not None, f"run `make bench BENCH={name}` on a quiet machine"
    table = found[1].partition("Measured on ")[2].partition("\n\n")[2]
    assert len(table.splitlines()) > 2
    assert found[1].startswith(section(name, "").partition("Measured on ")[0]), "the method has changed"


def test_a_section_is_renewed_in_its_place() -> None:
    page = put(put("# Benchmarks\n", "data", "old\n"), "other", "kept\n")
    assert put(page, "data", "new\n") == page.replace("old\n", "new\n")
    assert page.index("<!-- bench data -->") < page.index("<!-- bench other -->")


def test_the_machine_has_no_name() -> None:
    assert re.fullmatch(r"\d+ cores of .+, \d+ GB, Linux [\d.]+, Python [\d.]+, DVC [\d.]+", machine())


def test_the_data_bench_fetches_once_by_each_remote(capsys: pytest.CaptureFixture[str]) -> None:
    _, _, *rows = data.measure({"3 kB": 3000}, runs=1).splitlines()
    assert [row.split(" | ")[:2] for row in rows] == [
        ["| 3 kB, one file", "HTTP"],
        ["| 3 kB, one file", "folder"],
        ["| 3 kB, a folder of 20 files", "HTTP"],
        ["| 3 kB, a folder of 20 files", "folder"],
    ]
    assert all(row.endswith("| 0 bytes |") for row in rows)
