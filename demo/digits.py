"""The quick story, on `digits`: one model from YAML to production and back. Told by demo/story.py."""

from __future__ import annotations

from collections.abc import Callable

from behind import digests, hasten, instant_of_version, predict, pull_request, served
from stage import Story

TITLE = "Walkthrough"
ABOUT = (
    "The transcript of `make demo`, written by `make walkthrough`; a test tells the story again and compares. "
    "Digests, instants, ports and process ids are invented; nothing else is. Ticks of `reconcile --watch` that "
    "only wait are left out."
)
MODEL = "digits"
TOOLS = ("ask.py",)


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

    story.chapter("2. Train, measure, promote")
    story.say(
        "One tick does the smallest thing that brings the world nearer, and stops. Ticks go on: version 1 is "
        "registered, measured, and proposed for staging, which lets in by itself what passes every gate."
    )
    story.run("reconcile")
    story.until(
        r"! hold +awaiting-approval", why="version 1 is verified in staging, and production waits for somebody"
    )


def staging(story: Story) -> None:
    story.chapter("3. Staging")
    story.say("The pull request said what changes, what was measured, and what every gate answered.")
    story.run(f"reconcile pr show {pull_request(story, MODEL, 'staging')}")
    story.say("The server of staging answers over HTTP. This digit was in nobody's training data:")
    predict(story, MODEL, "staging")


def production(story: Story) -> None:
    story.chapter("4. Production, by a person's hand")
    story.say("There is no champion to compare with yet, and production's policy leaves that to a person.")
    story.run(f"reconcile pr approve {pull_request(story, MODEL, 'production')}")
    story.until(r"trueup\.verified\.production", why="version 1 is verified in production")
    story.run("reconcile status")


def better(story: Story) -> None:
    story.chapter("5. A better training")
    story.say("A change of the training section is a new training key. Nothing else has to be asked for.")
    story.run("git pull --quiet")
    story.edit("models/digits/model.yaml", "learningRate: 0.02", "learningRate: 0.05")
    story.edit("models/digits/model.yaml", "epochs: 6", "epochs: 20")
    story.commit("digits: longer training, in longer steps")
    story.until(
        r"open-pull-request .*production", why="version 2 is verified in staging and proposed for production"
    )
    number = pull_request(story, MODEL, "production")
    story.say("Candidate and champion were scored on the same rows; the interval of the difference decides.")
    story.run(f"reconcile pr show --no-diff {number}")
    story.picture("promotion", f"pulls/{number}", height=2200)
    story.run(f"reconcile pr approve {number}")
    story.until(r"trueup\.verified\.production", why="version 2 is verified in production")


def worse(story: Story) -> None:
    story.chapter("6. A worse change is held")
    story.run("git pull --quiet")
    story.edit("models/digits/model.yaml", "epochs: 20", "epochs: 3")
    story.commit("digits: three epochs, to save time")
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
    story.run(f"kill -STOP {served(story, MODEL, 'production')['pids']['serving']}")
    story.until(r"! hold +rejected", why="version 1 serves again")
    story.run("git pull --quiet")
    story.run("cat environments/production/releases/digits.yaml")
    story.say("What failed is rejected there, and is not proposed again.")
    story.run("reconcile explain digits production")
    predict(story, MODEL, "production")


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
