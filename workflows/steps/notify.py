"""Tell the reconciler that a run has ended, so that it looks now and not at its next tick.

Nobody waits for it and nothing depends on it: what goes wrong is logged, and the step has succeeded. It calls
three times at most, within half a minute.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from reconciler.core.argo import WAKE_TOKEN

log = logging.getLogger(__name__)
PAUSES = (2.0, 5.0, None)
"""Seconds after a call that failed; none after the last."""
PATIENCE = 5.0
"""Seconds that one call may take to connect, and then to be answered."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", required=True, help="of the receiver, as in http://trueup:8484/wake")
    parser.add_argument("--run", required=True, help="name of the run")
    parser.add_argument("--phase", required=True, help="how it ended")


def run(options: argparse.Namespace) -> None:
    for pause in PAUSES:
        try:
            said = _call(options.url, {"run": options.run, "phase": options.phase})
        except (OSError, HTTPException, ValueError) as error:
            said = f"no answer: {type(error).__name__}: {error}"
        if said == "202":
            log.info("the reconciler was called about %s", options.run)
            return
        log.warning("the call about %s: %s", options.run, said)
        if said.startswith("4") or pause is None:  # it would be refused again
            break
        time.sleep(pause)
    log.warning("nobody was told; the reconciler finds it by itself")


def _call(url: str, body: dict[str, str]) -> str:
    """The status of one POST. A redirect is not followed: the token is for this address alone."""
    place = urlsplit(url)
    connect = HTTPSConnection if place.scheme == "https" else HTTPConnection
    connection = connect(place.hostname or "", place.port, timeout=PATIENCE)
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get(WAKE_TOKEN, "").strip():
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request("POST", place.path or "/", json.dumps(body), headers)
        return str(connection.getresponse().status)
    finally:
        connection.close()
