"""`make servers`: build what is missing of the servers for tests, all of them or those that are named.

    python -m tests.servers [gitea] [cluster] [emulate]

Minutes the first time. The exit code is 1 where one of them cannot be had; the others are built nevertheless.
"""

from __future__ import annotations

import sys

from tests.servers import cluster, emulate, gitea
from tests.servers.programs import UnavailableError

BUILDS = {"emulate": emulate.build, "gitea": gitea.build, "cluster": cluster.build}


def main(names: list[str]) -> int:
    if unknown := set(names) - set(BUILDS):
        print(
            f"there is no server {', '.join(sorted(unknown))}; there are {', '.join(BUILDS)}", file=sys.stderr
        )
        return 2
    failed = 0
    for name in names or BUILDS:
        try:
            print(f"{name}: {BUILDS[name]()}", flush=True)
        except UnavailableError as unavailable:
            print(f"{name}: {unavailable}", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
