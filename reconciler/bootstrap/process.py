"""The clock, the environment and the secrets of this process: nothing outside of bootstrap reads them.

=====================  ===================================================================================
``TRUEUP_HOME``        state of the embedded stack; default ``REPOSITORY/.trueup``
``TRUEUP_CACHE``       what can be fetched again; default ``~/.cache/trueup``
``TRUEUP_REPOSITORY``  address of the GitOps repository, where there is no clone of it
``TRUEUP_PLATFORM``    file with the Platform that says whose credentials fetch it; default: the clone's
``TRUEUP_TOKEN``       a person's token on the forge, for what they do there as themselves
=====================  ===================================================================================

and the variables and files that the Platform names for its registries and secrets.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from reconciler.core.documents import KINDS
from reconciler.core.errors import Terminal
from reconciler.core.platform import Secret

Clock = Callable[[], datetime]
PLATFORM = KINDS["Platform"].example
PERSONS_TOKEN = Secret(env="TRUEUP_TOKEN")


def now() -> datetime:
    """The clock of everything that is not a test."""
    return datetime.now(UTC)


def cache() -> Path:
    """Mirrors and data sets: whoever deletes it loses time only."""
    chosen = os.environ.get("TRUEUP_CACHE")
    if chosen:
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "trueup"


def told(error: OSError) -> Terminal:
    """What the machine refused, with what to do about it where that is known."""
    hint = _REFUSED.get(error.errno or 0, "")
    return Terminal(error.strerror or str(error), where=str(error.filename or ""), hint=hint)


_WRITABLE = "`reconcile doctor` says which folders have to be writable, and where they are named"
_REFUSED = {
    errno.EACCES: _WRITABLE,
    errno.EPERM: _WRITABLE,
    errno.EROFS: _WRITABLE,
    errno.ENOSPC: "make room there; `reconcile doctor` says how much is free",
}


def secret(place: Secret) -> str:
    """What is at ``place`` now: a mounted file may be renewed. Terminal where there is nothing."""
    if place.env:
        value = os.environ.get(place.env, "").strip()
        problem, hint = "is not set", f"export {place.env}, or name a mounted file in {PLATFORM}"
    else:
        hint = f"mount it for this user, or name an environment variable in {PLATFORM}"
        try:
            value, problem = Path(str(place.file)).read_text(encoding="utf-8").strip(), "is empty"
        except (OSError, UnicodeDecodeError) as error:
            value, problem = "", f"cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}"
    if not value:
        raise Terminal(f"the secret {place} {problem}", where=PLATFORM, hint=hint)
    return value


def require(place: Secret, hint: str = "") -> None:
    """Say now, and not in the middle of a tick, that a secret is missing."""
    try:
        secret(place)
    except Terminal as missing:
        raise Terminal(missing.what, where=missing.where, hint=hint or missing.hint) from None


def is_set(place: Secret) -> bool:
    try:
        return bool(secret(place))
    except Terminal:
        return False
