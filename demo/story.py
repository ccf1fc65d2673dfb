"""`make demo`: one model from YAML to production and back, told with trueup's own commands.

    python demo/story.py [--folder FOLDER] [--transcript FILE] [--forge gitea [--pictures FOLDER]]

Everything happens below FOLDER, which is emptied first: a repository made by `reconcile init --example`, its
bare origin, and the embedded stack. The stack is stopped at the end, however the story ends.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

from settle import settle
from stage import Story, StoryError

HERE = Path(__file__).parent
TITLE = "Walkthrough"
ABOUT = (
    "The transcript of `make demo`, written by `make walkthrough`; a test tells the story again and compares. "
    "Digests, instants, ports and process ids are invented; nothing else is. Ticks of `reconcile --watch` that "
    "only wait are left out."
)


def beginning(story: Story) -> None:
    story.chapter("A repository")
    story.say(
        "A GitOps repository for models, with the example `digits`, and a bare origin for its pull requests."
    )
    story.run("reconcile init models --example")
    story.enter("models")
    story.settle_in()
    story.say(
        "The shipped environments watch a new release for minutes. For a demonstration seconds must do: a "
        "visible commit says so, and the gates stay as they are."
    )
    hasten(story)
    story.run("reconcile validate")


def first_training(story: Story) -> None:
    story.chapter("1. What would be done, and why")
    story.say("Nothing is trained yet. A dry run explains what would be submitted; it writes nothing.")
    story.run("reconcile --dry-run")

    story.chapter("2. Train and measure")
    story.say(
        "One tick does the smallest thing that brings the world nearer, and stops. Ticks go on until version 1 "
        "is registered, measured, and proposed for staging."
    )
    story.run("reconcile")
    story.until(r"open-pull-request .*staging", why="the pull request for staging is open")


def staging(story: Story) -> None:
    story.chapter("3. Staging")
    story.say("The pull request says what changes, what was measured, and what every gate answered.")
    story.run(f"reconcile pr show {pull_request(story, 'staging')}")
    story.say("Every gate passed, and staging lets such a version in by itself.")
    story.until(
        r"! hold +awaiting-approval", why="version 1 is verified in staging, and production waits for somebody"
    )
    story.say("The server of staging answers over HTTP. This digit was in nobody's training data:")
    predict(story, "staging")


def production(story: Story) -> None:
    story.chapter("4. Production, by a person's hand")
    story.say("There is no champion to compare with yet, and production's policy leaves that to a person.")
    story.run(f"reconcile pr approve {pull_request(story, 'production')}")
    story.until(r"trueup\.verified\.production", why="version 1 is verified in production")
    story.run("reconcile status")


def better(story: Story) -> None:
    story.chapter("5. A better network")
    story.say("A change of the training section is a new training key. Nothing else has to be asked for.")
    story.run("git pull --quiet")
    story.edit("models/digits/model.yaml", "channels: 8", "channels: 16")
    story.edit("models/digits/model.yaml", "epochs: 6", "epochs: 20")
    story.commit("digits: twice the channels, longer training")
    story.until(r"open-pull-request .*staging", why="version 2 is trained, measured and proposed")
    story.say("Candidate and champion were scored on the same rows; the interval of the difference decides.")
    story.run(f"reconcile pr show --no-diff {pull_request(story, 'staging')}")
    story.until(
        r"open-pull-request .*production", why="version 2 is verified in staging and proposed for production"
    )
    number = pull_request(story, "production")
    story.picture("promotion", f"pulls/{number}", height=2200)
    story.run(f"reconcile pr approve {number}")
    story.until(r"trueup\.verified\.production", why="version 2 is verified in production")


def worse(story: Story) -> None:
    story.chapter("6. A worse change is held")
    story.run("git pull --quiet")
    story.edit("models/digits/model.yaml", "epochs: 20", "epochs: 4")
    story.commit("digits: four epochs, to save time")
    story.until(r"hold .*gate-failed", why="version 3 is trained, measured and judged")
    story.say(
        "No pull request: the plan shows both values, the rows and the interval of the paired difference."
    )
    story.run("reconcile pr list")
    story.say(
        "Reverting the commit makes the version that already serves the candidate again. Nothing is left to do."
    )
    story.revert()
    story.run("reconcile --dry-run")


def rollback(story: Story) -> None:
    story.chapter("7. Production turns unhealthy")
    story.say("The server of version 2 stops answering. Its release is recent, so the release is to blame.")
    story.run(f"kill -STOP {served(story, 'production')['pids']['serving']}")
    story.until(r"! hold +rejected", why="version 1 serves again")
    story.run("git pull --quiet")
    story.run("cat environments/production/releases/digits.yaml")
    story.say("What failed is rejected there, and is not proposed again.")
    story.run("reconcile explain digits production")
    predict(story, "production")


def by_hand(story: Story) -> None:
    story.chapter("8. By hand")
    story.say(
        "Somebody is impatient and pins version 3 in staging by hand. Admission is the required check of every "
        "pull request, whoever opened it."
    )
    release = "environments/staging/releases/digits.yaml"
    story.run("git switch --quiet --create quick-fix")
    story.edit(release, 'version: "2"', 'version: "3"')
    story.run("git commit --quiet --all --message 'staging: version 3, quickly'")
    refusal = story.run("reconcile admit", expect=(1,))
    story.say("The digest is the identity, so they correct that too. The gate still stands.")
    right, wrong = digests(refusal)
    story.edit(release, wrong, right)
    story.commit("staging: version 3 by its digest", branch="quick-fix")
    story.run("reconcile pr open")
    story.run("reconcile admit", expect=(1,))
    story.run("git switch --quiet main")
    story.say(
        "Somebody moves an alias by hand. It is put back, and said. Their pull request stays where it is."
    )
    client = "from mlflow import MlflowClient; client = MlflowClient('sqlite:///.trueup/mlflow.db')"
    story.run(
        f"""python -c "{client}; client.set_registered_model_alias('digits', 'production', '3')" """.strip()
    )
    story.run("reconcile")


def ending(story: Story) -> None:
    story.chapter("9. What happened")
    history = story.run("reconcile history production/digits")
    story.say("And at one instant, while version 2 was there: on what evidence, by which pull request?")
    story.run(f"reconcile history production/digits --at {instant_of_version(story, history, '2')}")
    story.run("reconcile status")
    story.picture("pull-requests", "pulls?state=closed", height=900)


CHAPTERS: tuple[Callable[[Story], None], ...] = (
    beginning,
    first_training,
    staging,
    production,
    better,
    worse,
    rollback,
    by_hand,
    ending,
)


# --- what the chapters ask behind the scenes --------------------------------------------------------------


def hasten(story: Story) -> None:
    """Seconds instead of minutes, in the environments and not in the policies."""
    for environment in ("staging", "production"):
        path = f"environments/{environment}/environment.yaml"
        story.run(f"sed -i -E 's/^( *soak:) .*/\\1 2s/; s/^( *for:) .*/\\1 3s/' {path}")
    story.run("git diff --unified=0 --no-prefix")
    story.commit("environments: seconds instead of minutes, for a demonstration")


def pull_request(story: Story, environment: str) -> int:
    """The number of the open pull request that promotes digits there."""
    for item in json.loads(story.ask("reconcile pr list --output json")):
        if item["branch"] == f"trueup/promote/{environment}/digits":
            return int(item["number"])
    raise StoryError(f"no pull request is open for {environment}")


def served(story: Story, environment: str) -> dict[str, Any]:
    """What the embedded cluster knows of the server there: its address and process ids."""
    path = story.folder / f".trueup/cluster/{environment}/digits/status.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def predict(story: Story, environment: str) -> None:
    url = served(story, environment)["endpoint"]
    story.run(f"python ../ask.py {url} models/digits/data/evaluation.csv --row 7")


def digests(refusal: str) -> tuple[str, str]:
    """What admit says the digest is, and what the pin says it is."""
    found = re.search(r"has the digest (sha256:\w{64}), not (sha256:\w{64})", refusal)
    if found is None:
        raise StoryError("`reconcile admit` did not compare digests")
    return found[1], found[2]


def instant_of_version(story: Story, history: str, version: str) -> str:
    """When that version came, to the second, by the commit that the history names."""
    found = re.search(rf" v{version} .* ([0-9a-f]{{7}}) ", history)
    if found is None:
        raise StoryError(f"the history does not know version {version}")
    return story.ask(f"git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd {found[1]}").strip()


# --- the telling ------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=HERE.parent / ".demo" / "scratch")
    parser.add_argument("--transcript", type=Path, help="Write the story there as a Markdown page.")
    parser.add_argument("--forge", choices=("embedded", "gitea"), default="embedded")
    parser.add_argument("--pictures", type=Path, help="Write pictures of Gitea's pages there, by Chromium.")
    arguments = parser.parse_args()

    folder: Path = arguments.folder.absolute()
    for home in folder.glob("*/.trueup"):  # left by a story that was killed
        subprocess.run(["reconcile", "local", "stop"], cwd=home.parent, env=environment_of(folder), check=False)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(HERE / "ask.py", folder)
    signal.signal(signal.SIGTERM, interrupted)
    # In the background a shell ignores Ctrl-C, and so would the watches that the story ends by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    begun = time.monotonic()
    try:
        with stage(folder, arguments) as story:
            tell(story)
            if arguments.transcript:
                arguments.transcript.write_text(settle(story.markdown(TITLE, ABOUT), folder))
            print(f"\nThat took {time.monotonic() - begun:.0f} seconds.", end=" ")
            print(f"The repository is {story.folder}: look around.")
            story.linger()
    except StoryError as error:
        print(f"\nerror: {error}\nhint: everything is still in {folder}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def tell(story: Story) -> None:
    try:
        for chapter in CHAPTERS:
            chapter(story)
    finally:
        if (story.folder / ".trueup").exists():
            story.run("reconcile local stop")


def stage(folder: Path, arguments: argparse.Namespace) -> AbstractContextManager[Story]:
    if arguments.forge == "embedded":
        return nullcontext(Story(folder, environment_of(folder)))
    from forge import on_gitea

    return on_gitea(folder, environment_of(folder), arguments.pictures)


def environment_of(folder: Path) -> dict[str, str]:
    """This process's environment with one person, one cache and plain text, whatever the machine is set to."""
    person = {"user.name": "Ada", "user.email": "ada@example.org", "advice.detachedHead": "false"}
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "TRUEUP_"))}
    env |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TRUEUP_CACHE": str(folder / "cache"),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_COUNT": str(len(person)),
        "GIT_PAGER": "cat",
        "COLUMNS": "110",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
        "TZ": "UTC",
    }
    for place, (key, value) in enumerate(person.items()):
        env |= {f"GIT_CONFIG_KEY_{place}": key, f"GIT_CONFIG_VALUE_{place}": value}
    return env


def interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
