"""The DVC remote of a repository, read through DVC's own file systems: whatever DVC can reach, steps can.

Called by the step `data`. Importing this is quick; connecting imports DVC.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any, NamedTuple

from reconciler.core.errors import Retryable, Terminal
from workflows.steps.pointers import Tracked


class Remote(NamedTuple):
    """The default remote: its name in ``.dvc/config``, DVC's file system for it, and the folder in that."""

    name: str
    files: Any
    root: str

    def fetch(self, file: Tracked, destination: Path) -> None:
        """Write the object of this md5 to ``destination``, unchecked. Several threads may fetch at once.

        DVC 3 keeps it as ``files/md5/AB/CDEF...``. Terminal if it is not there or not ours to read, OSError
        if our disk is full; Retryable for whatever else went wrong. Then ``destination`` may hold a part.
        """
        path = self.files.join(self.root, "files", "md5", file.md5[:2], file.md5[2:])
        try:
            self.files.get_file(path, str(destination))
        except FileNotFoundError as error:
            raise Terminal(
                f"DVC remote {self.name!r} does not have md5 {file.md5}", where=file.path, hint="run `dvc push`"
            ) from error
        except PermissionError as error:
            raise Terminal(f"DVC remote {self.name!r} refuses: {error}", where=file.path) from error
        except Exception as error:  # each kind of remote has its own exceptions; none has a common base
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise Retryable(f"DVC remote {self.name!r} did not answer: {error}", where=file.path) from error


def connect(source: Path) -> Remote:
    """The default remote of ``source/.dvc/config``. Terminal if none is named, or DVC cannot use it."""
    from dvc.config import Config, NoRemoteError
    from dvc.exceptions import DvcException
    from dvc.fs import get_cloud_fs

    try:
        config = Config(dvc_dir=str(source / ".dvc"))
        name = config["core"].get("remote")
        if not name:
            raise NoRemoteError("core.remote is not set")
        kind, settings, root = get_cloud_fs(config, name=name)
        return Remote(name, kind(**settings), root)
    except DvcException as error:
        raise Terminal(
            str(error), where=".dvc/config", hint="run `dvc remote add --default NAME URL`"
        ) from error
