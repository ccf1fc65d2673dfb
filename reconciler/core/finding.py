"""What `reconcile doctor` found about one thing that trueup needs."""

from __future__ import annotations

from typing import Literal

from reconciler.core.base import Frozen

State = Literal["ok", "warn", "fail"]


class Finding(Frozen):
    """``check`` is what was looked at, as in ``registry default``. ``hint``: what to do, where it is not ok."""

    check: str
    state: State
    what: str
    where: str = ""
    hint: str = ""
