"""How long property tests search: by default briefly and always along the same path, ``nightly`` for long.

Use: ``pytest tests/laws --hypothesis-profile=nightly``.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile(
    "default", max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=_SLOW
)
settings.register_profile(
    "nightly", parent=settings.get_profile("default"), max_examples=3000, derandomize=False, print_blob=True
)
settings.load_profile("default")
