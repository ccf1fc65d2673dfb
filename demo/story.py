"""`make demo`: a story told with trueup's own commands, quick on `digits` or longer on `flight-delay`.

    python demo/story.py [--model MODEL] [--folder FOLDER] [--transcript FILE]
                         [--forge gitea [--pictures FOLDER]]

Everything happens below FOLDER, which is emptied first: a repository made by `reconcile init --example`, its
bare origin, and the embedded stack. The stack is stopped at the end, however the story ends.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NoReturn

import digits
import flights
from settle import settle
from stage import Story, StoryError

HERE = Path(__file__).parent
STORIES = {told.MODEL: told for told in (digits, flights)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=STORIES, default="digits")
    parser.add_argument("--folder", type=Path, default=HERE.parent / ".demo" / "scratch")
    parser.add_argument("--transcript", type=Path, help="Write the story there as a Markdown page.")
    parser.add_argument("--forge", choices=("embedded", "gitea"), default="embedded")
    parser.add_argument("--pictures", type=Path, help="Write pictures of Gitea's pages there, by Chromium.")
    arguments = parser.parse_args()

    told = STORIES[arguments.model]
    folder: Path = arguments.folder.absolute()
    for home in folder.glob("*/.trueup"):  # left by a story that was killed
        subprocess.run(["reconcile", "local", "stop"], cwd=home.parent, env=environment_of(folder), check=False)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for tool in told.TOOLS:
        shutil.copy(HERE / tool, folder)
    signal.signal(signal.SIGTERM, interrupted)
    # In the background a shell ignores Ctrl-C, and so would the watches that the story ends by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    begun = time.monotonic()
    try:
        with stage(folder, arguments) as story:
            tell(story, told.CHAPTERS)
            if arguments.transcript:
                arguments.transcript.write_text(settle(story.markdown(told.TITLE, told.ABOUT), folder))
            print(f"\nThat took {time.monotonic() - begun:.0f} seconds.", end=" ")
            print(f"The repository is {story.folder}: look around.")
            story.linger()
    except StoryError as error:
        print(f"\nerror: {error}\nhint: everything is still in {folder}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def tell(story: Story, chapters: Sequence[Callable[[Story], None]]) -> None:
    try:
        for chapter in chapters:
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
