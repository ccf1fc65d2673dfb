"""``reconcile-server`` as the process that a Deployment starts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from workflows.steps.parity import running_server

COMMAND = [sys.executable, "-m", "workflows.server.main"]


def settings(version, **changes: str) -> dict[str, str]:
    return {
        "TRUEUP_MODEL_NAME": "centroids",
        "TRUEUP_MODEL_VERSION": version.number,
        "TRUEUP_MODEL_DIGEST": version.digest,
        "TRUEUP_MODEL_URI": f"models:/centroids/{version.number}",
        "PORT": "0",
        **changes,
    }


def test_another_digest_ends_it_before_anything_is_loaded(versions) -> None:
    wrong = settings(versions["centroids"], TRUEUP_MODEL_DIGEST=versions["coarse"].digest)
    done = subprocess.run(
        COMMAND, check=False, env=os.environ | wrong, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert f"its files have digest {versions['centroids'].digest}" in done.stderr
    assert "nothing was loaded" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"TRUEUP_MODEL_DIGEST": "", "TRUEUP_MODEL_NAME": ""},
            "TRUEUP_MODEL_NAME, TRUEUP_MODEL_DIGEST not set",
        ),
        ({"PORT": "http"}, "PORT is 'http', not a number"),
    ],
)
def test_a_wrong_environment_is_named(changes, said, versions) -> None:
    environment = os.environ | settings(versions["centroids"], **changes)
    done = subprocess.run(COMMAND, check=False, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"reconcile-server: {said}" in done.stderr


def test_serves_until_it_is_told_to_end(versions) -> None:
    import httpx

    with running_server(settings(versions["coarse"])) as address:
        version = httpx.get(f"{address}/version", trust_env=False).json()
        assert version["digest"] == versions["coarse"].digest
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/health", trust_env=False)
