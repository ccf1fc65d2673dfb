"""``pytest tests/stories --update`` writes the golden files anew, for review."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write the golden files of the stories anew")
