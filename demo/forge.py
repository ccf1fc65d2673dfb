"""`make demo FORGE=gitea`: the same story with its pull requests on a real Gitea, for a browser to look at.

demo/story.py calls it. The server is the tests' own (tests/servers/gitea.py), on loopback, and gone afterwards.
"""

from __future__ import annotations

import base64
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stage import Story, StoryError

if TYPE_CHECKING:
    from tests.servers.gitea import Gitea

ROOT = Path(__file__).parents[1]
REPOSITORY = "ml/models"
ADMISSION = "trueup/admission"
WIDTH = 1280


class GiteaStory(Story):
    """Told where nobody may push to main: what people change, they change by pull request."""

    def __init__(self, folder: Path, env: dict[str, str], server: Gitea, pictures: Path | None) -> None:
        self.server, self.pictures = server, pictures
        self.address = f"{server.url}/{REPOSITORY}"
        tokens = _populate(server)
        basic = base64.b64encode(f"Ada:{tokens['Ada']}".encode()).decode()
        place = int(env["GIT_CONFIG_COUNT"])
        super().__init__(
            folder,
            env
            | {
                "TRUEUP_FORGE_TOKEN": tokens["trueup"],
                "TRUEUP_TOKEN": tokens["Ada"],
                "GIT_CONFIG_COUNT": str(place + 1),
                f"GIT_CONFIG_KEY_{place}": f"http.{server.url}/.extraHeader",
                f"GIT_CONFIG_VALUE_{place}": f"Authorization: Basic {basic}",
            },
        )
        self.branches = 0

    def settle_in(self) -> None:
        self.chapter("Pull requests on Gitea")
        self.say(
            f"The pull requests are to be where people can look at them: {self.address}/pulls, in any browser. "
            "Two accounts may write there: trueup's own, whose token the Platform names, and Ada's."
        )
        forge = f"  type: gitea\\n  url: {self.server.url}\\n  repository: {REPOSITORY}"
        forge += "\\n  token: {env: TRUEUP_FORGE_TOKEN}"
        self.run(f"sed -i '/^forge:/{{n;s|.*|{forge}|}}' environments/platform.yaml")
        self.run("git diff --unified=0 --no-prefix")
        self.run(f"git remote set-url origin {self.address}.git")
        super().commit("platform: pull requests on Gitea")
        self._call(
            "POST",
            "/branch_protections",
            rule_name="main",
            enable_push=False,
            enable_status_check=True,
            status_check_contexts=[ADMISSION],
        )
        self.say(
            "From here on main is protected: nobody pushes to it, and what is merged needs the check "
            f"{ADMISSION}. Trueup publishes it on its own pull requests; on those of people a CI job does, by "
            "`reconcile admit`."
        )

    def commit(self, message: str, *, branch: str = "main") -> None:
        if branch != "main":
            super().commit(message, branch=branch)
            return
        self._by_pull_request(f"git commit --quiet --all --message {shlex.quote(message)}")

    def revert(self) -> None:
        self._by_pull_request("git revert --no-edit --mainline 1 HEAD")

    def picture(self, name: str, page: str, height: int) -> None:
        if self.pictures is None:
            return
        self.ask("reconcile")  # the tick that publishes checks
        self.pictures.mkdir(parents=True, exist_ok=True)
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        options = [
            f"--window-size={WIDTH},{height}",
            "--virtual-time-budget=5000",
            f"--user-data-dir={self.folder}.browser",
        ]
        target = f"--screenshot={self.pictures.absolute() / name}.png"
        subprocess.run(
            [*command, *options, target, f"{self.address}/{page}"], check=True, capture_output=True, timeout=120
        )

    def linger(self) -> None:
        print(f"Gitea is at {self.address}/pulls?state=closed; sign in as Ada with {self.server.password}")
        if sys.stdin.isatty():
            input("It ends when you press Enter. ")

    def _by_pull_request(self, change: str) -> None:
        self.branches += 1
        branch = f"change-{self.branches}"
        self.run(f"git switch --quiet --create {branch}")
        self.run(change)
        self.run(f"git push --quiet origin {branch}")
        number = self.run("reconcile pr open").strip().removeprefix("#")
        self.run("reconcile admit")
        head = self.ask("git rev-parse HEAD").strip()
        self._call("POST", f"/statuses/{head}", context=ADMISSION, state="success", description="admitted")
        self.run(f"reconcile pr merge {number}")
        self.run("git switch --quiet main")
        self.run("git pull --quiet")

    def _call(self, method: str, path: str, **wish: Any) -> None:
        with self.server.admin() as admin:
            admin.request(method, f"/repos/{REPOSITORY}{path}", json=wish).raise_for_status()


@contextmanager
def on_gitea(folder: Path, env: dict[str, str], pictures: Path | None) -> Iterator[GiteaStory]:
    """The story's stage with a Gitea below ``folder``, for as long as it is told."""
    sys.path.append(str(ROOT))
    from tests.servers import gitea
    from tests.servers.programs import UnavailableError

    try:
        print("starting Gitea (the first time it is built: about 6 minutes)", file=sys.stderr)
        gitea.build()
        if not gitea.dress():
            print("its pages stay plain: npm is needed to make their style sheets", file=sys.stderr)
    except UnavailableError as unavailable:
        raise StoryError(str(unavailable)) from unavailable
    with gitea.running(folder / "gitea") as server:
        yield GiteaStory(folder, env, server, pictures)


def _populate(server: Gitea) -> dict[str, str]:
    """An organisation with an empty public repository, and who may write to it, with their tokens."""
    owner, name = REPOSITORY.split("/")
    with server.admin() as admin:
        admin.post("/orgs", json={"username": owner}).raise_for_status()
        admin.post(f"/orgs/{owner}/repos", json={"name": name, "default_branch": "main"}).raise_for_status()
        tokens = {person: server.account(person) for person in ("trueup", "Ada")}
        for person in tokens:
            path = f"/repos/{REPOSITORY}/collaborators/{person}"
            admin.put(path, json={"permission": "write"}).raise_for_status()
    return tokens
