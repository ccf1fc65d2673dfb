"""What chapters of the stories ask behind the scenes, and do in both."""

from __future__ import annotations

import json
import re
from typing import Any

from stage import Story, StoryError


def hasten(story: Story) -> None:
    """Seconds instead of minutes, in the environments and not in the policies."""
    for environment in ("staging", "production"):
        path = f"environments/{environment}/environment.yaml"
        story.run(f"sed -i -E 's/^( *soak:) .*/\\1 1s/; s/^( *for:) .*/\\1 2s/' {path}")
    story.run("git diff --unified=0 --no-prefix")
    story.commit("environments: seconds instead of minutes, for a demonstration")


def pull_request(story: Story, model: str, environment: str) -> int:
    """The number of the pull request that was opened last to promote the model there, as a tick has told."""
    opened = rf"open-pull-request +Promote {model} to {environment}: version \S+ +done #(\d+)"
    numbers = [number for _, text in story.told for number in re.findall(opened, text)]
    if not numbers:
        raise StoryError(f"no pull request was opened for {environment}")
    return int(numbers[-1])


def served(story: Story, model: str, environment: str) -> dict[str, Any]:
    """What the embedded cluster knows of the server there: its address and process ids."""
    path = story.folder / f".trueup/cluster/{environment}/{model}/status.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def predict(story: Story, model: str, environment: str) -> None:
    """Ask the server there about one row of the evaluation data."""
    url = served(story, model, environment)["endpoint"]
    story.run(f"python ../ask.py {url} models/{model}/data/evaluation.csv --row 7")


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
