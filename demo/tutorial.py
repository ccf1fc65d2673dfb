"""`make tutorial`: a newcomer's path from nothing to a model of their own, and docs/tutorial.md from it.

    python demo/tutorial.py [--folder FOLDER] [--transcript FILE]

Told on the stage of the story (stage.py), below FOLDER, which is emptied first. Its test tells it again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from behind import hasten
from settle import settle
from stage import Story, StoryError
from story import HERE, environment_of, interrupted

TITLE = "Tutorial: a model of your own"
ABOUT = (
    "From nothing to a model of your own rows that serves in production, in about a quarter of an hour "
    "with the downloads, on one machine: no server, no account, no GPU. Everything here is run by a test,"
    " command by command; digests, instants and ports are invented, and ticks of `reconcile --watch` that"
    " only wait are left out."
)
CUSTOMERS = '''\
"""Made-up customers, each by its number: python customers.py FIRST COUNT FILE"""

import random
import sys

first, count, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
with open(path, "a") as file:
    if first == 0:
        file.write("customer,plan,months,calls,spend,churned\\n")
    for number in range(first, first + count):
        draw = random.Random(number)
        plan = draw.choice(["basic", "plus", "family"])
        months, calls = draw.randrange(1, 60), draw.randrange(8)
        spend = "" if draw.random() < 0.05 else f"{20 + 40 * draw.random():.2f}"
        leaves = 0.9 * calls - 0.1 * months + (2 if plan == "basic" else 0) + draw.gauss(0, 1) > 1
        file.write(f"c{number:05d},{plan},{months},{calls},{spend},{'yes' if leaves else 'no'}\\n")
'''


def install(story: Story) -> None:
    story.chapter("1. Install")
    story.say(
        "You need Python 3.11 or newer and Git. As long as nothing is released, trueup is installed from "
        "a clone, here in the folder `trueup`; torch and MLflow come along, about 3 GB:"
    )
    story.show("pip install './trueup[steps,server]'")
    story.run("reconcile version")


def rows(story: Story) -> None:
    story.chapter("2. Rows")
    story.say(
        "You need a CSV file: a first line that names the columns, and one row for each thing to learn "
        "from, with the answer in one column. Take your own, or make this one, of customers of whom some "
        "have left:"
    )
    (story.folder / "customers.py").write_text(CUSTOMERS)
    story.run("cat customers.py")
    story.run("python customers.py 0 3000 customers.csv")
    story.run("head -4 customers.csv")


def repository(story: Story) -> None:
    story.chapter("3. A repository")
    story.say(
        "A GitOps repository says what should be: environments, policies, models. This writes one with "
        "the environments staging and production, and beside it a bare `origin`, which is where pull "
        "requests live until you name a real forge."
    )
    story.run("reconcile init models")
    story.enter("models")
    story.say(
        "A new release is watched for minutes before it counts as good. Here seconds must do; in earnest, "
        "leave this out."
    )
    hasten(story)


def model(story: Story) -> None:
    story.chapter("4. The model")
    story.say(
        "One command makes a model of your rows: the document, the code of a small network, tests of how "
        "it behaves, and the data, split and handed to DVC. It says what it noticed on the way."
    )
    story.run("reconcile new-model churn --data ../customers.csv --target churned")
    story.run("reconcile validate")
    story.run("cat models/churn/model.yaml")
    story.say(
        "A row is held out for measuring by what is in it, so that it is always on the same side, "
        "whatever else the file has: `evaluation.csv` is what all versions are compared on. `src` is "
        "yours to change: it learns from numbers and texts, with gaps, and from values it has not seen. "
        "`pip install pytest` and `pytest models/churn` run its tests."
    )


def pull_request(story: Story) -> None:
    story.chapter("5. A pull request")
    story.say("Nothing happens until it is on `main`, and to `main` leads a pull request.")
    story.run("git switch --quiet --create churn")
    story.run("git add models/churn")
    story.run("git commit --quiet --message 'A model: churn'")
    story.run("git push --quiet --set-upstream origin churn")
    story.run("reconcile pr open")
    story.run("reconcile pr merge 1")
    story.run("git switch --quiet main")
    story.run("git pull --quiet")


def staging(story: Story) -> None:
    story.chapter("6. Train, measure, stage")
    story.say("What would be done, and why:")
    story.run("reconcile --dry-run")
    story.say(
        "`reconcile` does it, once; `--watch` goes on. Each tick does what can be done now: train, "
        "measure, open the pull request for staging, merge it, serve. Production wants a person's yes for"
        " a first version, so there it waits."
    )
    story.until(r"! hold +awaiting-approval", why="staging has verified version 1, and production waits")
    story.run("reconcile explain churn staging")


def ask(story: Story) -> None:
    story.chapter("7. Ask it")
    story.say(
        "The server of staging runs on this machine, at the endpoint that `explain` names. It takes rows as "
        "JSON, with gaps too, and more than one at once:"
    )
    url = json.loads((story.folder / ".trueup/cluster/staging/churn/status.json").read_text())["endpoint"]
    row = {"plan": "basic", "months": 3, "calls": 6, "spend": None}
    body = json.dumps({"dataframe_records": [row, row | {"months": 50, "calls": 0}]})
    story.run(f"curl --silent --show-error --write-out '\\n' {url}/invocations --data '{body}'")


def production(story: Story) -> None:
    story.chapter("8. Production")
    story.run("reconcile pr list")
    number = proposed(story, "production")
    story.say("The pull request shows each gate with its numbers. You are the person it waits for:")
    story.run(f"reconcile pr show --no-diff {number}")
    story.run(f"reconcile pr approve {number}")
    story.until(r"trueup\.verified\.production", why="version 1 is verified in production")
    story.run("reconcile status")


def retrain(story: Story) -> None:
    story.chapter("9. New rows")
    story.say(
        "A thousand customers more have decided. New data is a commit: DVC keeps the rows, Git their digest."
    )
    story.run("git pull --quiet")
    story.run("python ../customers.py 3000 1000 models/churn/data/train.csv")
    story.run("dvc add --quiet models/churn/data/train.csv")
    story.run("dvc push --quiet models/churn/data/train.csv.dvc")
    story.run("git diff --unified=0 --no-prefix")
    story.commit("churn: a thousand customers more")
    story.run("reconcile --dry-run")
    story.until(r"open-pull-request .*staging", why="version 2 is trained, measured and proposed")
    story.say("Both versions were measured on the same rows that neither has learned from:")
    story.run(f"reconcile pr show --no-diff {proposed(story, 'staging')}")


def ending(story: Story) -> None:
    story.chapter("10. Clean up, and go on")
    story.run("reconcile local stop")
    story.say(
        "What you see is the [whole story](walkthrough.md) in small: [gates](gates.md) say what a version"
        " must prove, [documents](documents.md) what all fields mean, [install](install.md) how this is "
        "put on MLflow, Argo Workflows, a forge and Kubernetes of your own."
    )


CHAPTERS = (install, rows, repository, model, pull_request, staging, ask, production, retrain, ending)


def proposed(story: Story, environment: str) -> int:
    """The number of the open pull request that promotes churn there."""
    for item in json.loads(story.ask("reconcile pr list --output json")):
        if item["branch"] == f"trueup/promote/{environment}/churn":
            return int(item["number"])
    raise StoryError(f"no pull request is open for {environment}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=HERE.parent / ".demo" / "tutorial")
    parser.add_argument("--transcript", type=Path, help="Write the page there.")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    signal.signal(signal.SIGTERM, interrupted)
    story = Story(folder, environment_of(folder))
    try:
        for chapter in CHAPTERS:
            chapter(story)
    except StoryError as error:
        print(f"\nerror: {error}\nhint: everything is still in {folder}", file=sys.stderr)
        return 1
    finally:
        if (story.folder / ".trueup").exists():
            stop = ["reconcile", "local", "stop"]
            subprocess.run(stop, cwd=story.folder, env=story.env, capture_output=True, check=False)
    if arguments.transcript:
        arguments.transcript.write_text(settle(story.markdown(TITLE, ABOUT), folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
