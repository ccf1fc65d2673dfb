"""The longer story, on `flight-delay`: a year of flights, new data, a mistake, and a changed world.

Told by demo/story.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from behind import hasten, predict, pull_request, served
from stage import Story, StoryError

TITLE = "A year of flights"
ABOUT = (
    "The transcript of `make demo MODEL=flight-delay`, written by `make walkthrough MODEL=flight-delay`. "
    "Digests, instants, ports and process ids are invented; nothing else is. Ticks of `reconcile --watch` that "
    "only wait are left out. How good the model is: [its own page](../models/flight-delay/README.md)."
)
MODEL = "flight-delay"
TOOLS = ("ask.py",)
DATA = f"models/{MODEL}/data"


def beginning(story: Story) -> None:
    story.chapter("A repository")
    story.say(
        "A GitOps repository with the example `flight-delay`: will a flight from New York arrive more than 15 "
        "minutes late? Its rows are made from a package of all 336,776 flights of 2013 and the weather. It "
        "trains on the first quarter, and is evaluated on all of July."
    )
    story.run(f"reconcile init models --example --model {MODEL}")
    story.enter("models")
    story.settle_in()
    story.run(f"cat models/{MODEL}/model.yaml")
    story.say("Seconds instead of minutes, as for every demonstration; the gates stay as they are.")
    hasten(story)
    story.run("reconcile validate")


def first_quarter(story: Story) -> None:
    story.chapter("1. The first quarter, to production")
    story.until(
        r"! hold +awaiting-approval",
        why="version 1 is trained, measured and verified in staging",
    )
    story.say(
        "There was no champion to compare with, so staging compared with the promise of the model's own file: "
        "an AUC of 0.7, less what staging allows. Production leaves a first version to a person."
    )
    number = pull_request(story, MODEL, "production")
    story.run(f"reconcile pr show --no-diff {number}")
    story.run(f"reconcile pr approve {number}")
    story.until(r"trueup\.verified\.production", why="version 1 is verified in production")
    predict(story, MODEL, "production")
    story.run("reconcile status")


def half_year(story: Story) -> None:
    story.chapter("2. A quarter more of data")
    story.say(
        "The second quarter has come. One file more, a new md5 of the folder, a commit. Nobody asks for a "
        "training."
    )
    story.run("git pull --quiet")
    data(story, "2013-q1 2013-q2", "flight-delay: the flights of April to June")
    ticks = story.until(r"open-pull-request .*staging", why="version 2 is trained, measured and proposed")
    story.say("What was there is not fetched again. Of the half-year, the second quarter was new:")
    story.run(f"reconcile logs {training(ticks)}")
    story.say("Both versions were scored on the same flights of July, and the difference is beyond doubt.")
    story.run(f"reconcile pr show --no-diff {pull_request(story, MODEL, 'staging')}")
    story.until(
        r"open-pull-request .*production", why="version 2 is verified in staging and proposed for production"
    )
    story.run(f"reconcile pr approve {pull_request(story, MODEL, 'production')}")
    story.until(r"trueup\.verified\.production", why="version 2 is verified in production")


def january(story: Story) -> None:
    story.chapter("3. A mistake")
    story.say("Somebody wanted to try something on one month, and commits the data of January alone.")
    story.run("git pull --quiet")
    data(story, "2013-01", "flight-delay: smaller data, to try something")
    story.until(r"hold .*gate-failed", why="version 3 is trained, measured and judged")
    story.say("It keeps the promise of the model's file. But it is worse than what serves, and is held.")
    story.run(f"reconcile explain {MODEL} staging")
    story.say("Reverting the commit makes version 2, which serves, the candidate again: nothing is left to do.")
    story.revert()
    story.run("reconcile --dry-run")


def october(story: Story) -> None:
    story.chapter("4. October")
    story.say(
        "Months later. The server of version 2 is asked about October's flights. As the model's file says, it "
        "keeps in its memory the rows that it answers."
    )
    story.run(f"python {DATA}/prepare.py --train 2013-q1 2013-q2 --recent ../october.csv")
    server = served(story, MODEL, "production")["endpoint"]
    story.run(f"python ../ask.py {server} ../october.csv --replay 5000")
    story.say("Then somebody thinks that more dropout could be better.")
    story.run("git pull --quiet")
    story.edit(f"models/{MODEL}/model.yaml", "dropout: 0.1", "dropout: 0.2")
    story.commit("flight-delay: more dropout")
    story.until(r"open-pull-request .*production", why="version 4 is verified in staging and proposed")
    story.say(
        "On the July of its evaluation it is as good as what serves. But what production is asked today is not "
        "what it learned from: the temperature has drifted far beyond the limit, and the schedule has not. No "
        "number can say whether that is good enough, so a person has to."
    )
    story.run(f"reconcile pr show --no-diff {pull_request(story, MODEL, 'production')}")
    story.run(f"reconcile explain {MODEL} production")


def ending(story: Story) -> None:
    story.chapter("5. What happened")
    story.run(f"reconcile history production/{MODEL}")
    story.run("reconcile status")


CHAPTERS: tuple[Callable[[Story], None], ...] = (beginning, first_quarter, half_year, january, october, ending)


def data(story: Story, parts: str, message: str) -> None:
    """Train on these parts of the year: made, tracked, pushed to the DVC remote, and committed by a person."""
    story.run(f"python {DATA}/prepare.py --train {parts}")
    story.run(f"python -m dvc add --quiet {DATA}/train")
    story.run("python -m dvc push --quiet")
    story.run("git diff --unified=0 --no-prefix")
    story.commit(message)


def training(ticks: str) -> str:
    """The name of the training that was submitted."""
    found = re.search(rf"submit-workflow +(train-{MODEL}-\S+)", ticks)
    if found is None:
        raise StoryError("no training was submitted")
    return found[1]
