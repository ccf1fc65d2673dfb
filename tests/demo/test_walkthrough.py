"""The stories are what happens: each is told again and compared with its page, command by command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
WALKTHROUGH = ROOT / "docs" / "walkthrough.md"
FLIGHTS = ROOT / "docs" / "flight-delay.md"


@pytest.fixture
def settle(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "demo"))
    import settle

    return settle


@pytest.fixture
def quote(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "demo"))
    import quote

    return quote


@pytest.mark.long
@pytest.mark.parametrize(("model", "page"), [("digits", WALKTHROUGH), ("flight-delay", FLIGHTS)])
def test_the_story_is_still_the_one_that_is_written(
    model: str, page: Path, settle: ModuleType, tmp_path: Path
) -> None:
    told = subprocess.run(
        [
            sys.executable,
            str(ROOT / "demo/story.py"),
            f"--model={model}",
            f"--folder={tmp_path / 'scratch'}",
            f"--transcript={tmp_path / 'page.md'}",
        ],
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert told.returncode == 0, told.stdout[-4000:] + told.stderr
    new, written = settle.skeleton((tmp_path / "page.md").read_text()), settle.skeleton(page.read_text())
    assert [command for command, _ in new] == [command for command, _ in written]
    for said, wrote in zip(new, written, strict=True):
        assert said == wrote, f"run `make walkthrough MODEL={model}` and read what changed"


def test_there_is_a_story_for_every_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "demo"))
    import story

    assert set(story.STORIES) == {path.parent.name for path in (ROOT / "models").glob("*/model.yaml")}
    for told in story.STORIES.values():
        assert all((ROOT / "demo" / tool).is_file() for tool in told.TOOLS)


def test_a_story_finds_the_pull_request_that_it_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "demo"))
    from behind import pull_request
    from stage import Story, StoryError

    story = Story(ROOT, {})
    for version, number in (("1", "1"), ("2", "12")):
        line = f"  + open-pull-request  Promote digits to staging: version {version}  done #{number}\n"
        story.told.append(("console", f"tick of now\nstaging/digits\n{line}"))
    assert pull_request(story, "digits", "staging") == 12
    with pytest.raises(StoryError, match="no pull request was opened for production"):
        pull_request(story, "digits", "production")


def test_the_readme_quotes_the_walkthrough_as_it_is_today(quote: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(quote.BLOCK.findall(readme)) > 3
    assert quote.requoted(readme, WALKTHROUGH.read_text()) == readme, "renew the quotes: python demo/quote.py"


def test_a_quote_is_renewed_and_an_invented_one_is_found_out(quote: ModuleType) -> None:
    page = "a\n$ x\nsince 2026-01-05T09:00:15Z\n\nb\nc 0.93\n$ x\n"
    old = "```console\n$ x\nsince 2026-01-05T10:11:12Z\n...\nc 0.91\n```\n"
    new = "```console\n$ x\nsince 2026-01-05T09:00:15Z\n...\nc 0.93\n```\n"
    assert quote.requoted(old, page) == new
    for wrong in ("$ x\nc 0.91\n", "c 0.91\n...\nb\n", "$ y\n"):
        with pytest.raises(ValueError, match="does not go on"):
            quote.requoted(f"```console\n{wrong}```\n", page)


PAGE = """\
$ reconcile --dry-run
tick of 2026-11-24T03:57:15Z, {a} and {b}, short {c}
$ kill -STOP 5712
at http://127.0.0.1:60243 and http://127.0.0.1:60244, since 2026-11-24T03:58:04.166789Z, 2026-11-24 03:59Z
"""
A, B = "8a723f55c181fb0ae64576d178241c7b7b8ed4797d1690974bc76ff7b6f5f1c7", "4465ad135d11"


def test_settled_pages_can_still_be_followed(settle: ModuleType) -> None:
    page = settle.settle(PAGE.format(a=A, b=B, c=A[:12]), Path("/nowhere"))
    first, second = page.splitlines()[1], page.splitlines()[3]
    invented = first.split(", ")[1].split(" and ")[0]
    assert A not in page
    assert B not in page
    assert len(invented) == 64
    assert first.endswith(f"short {invented[:12]}")
    assert first.startswith("tick of 2026-01-05T09:00:15Z, ")
    assert second == (
        "at http://127.0.0.1:40001 and http://127.0.0.1:40002, since 2026-01-05T09:01:04Z, 2026-01-05 09:02Z"
    )


def test_a_skeleton_forgets_what_differs_and_nothing_else(settle: ModuleType) -> None:
    one = "$ reconcile status\nv1 0.9275 [+0.01, -0.2] 8a723f55c181 done\n"
    assert settle.skeleton(one) == settle.skeleton(one.replace("0.9275", "0.93").replace("8a723f5", "9a723f5"))
    assert settle.skeleton(one) != settle.skeleton(one.replace("v1", "v2"))
    rate = "$ reconcile history\nspeed.rows-per-second  3.443e+04\n"
    assert settle.skeleton(rate) == settle.skeleton(rate.replace("3.443e+04", "9876"))
    legend = "$ reconcile explain\n  ● value   ┣━┫ interval   ┃ asked\n"
    assert settle.skeleton(legend) == settle.skeleton(legend.replace("   ┣━┫ interval", ""))


def test_the_order_of_actions_in_a_watch_does_not_matter(settle: ModuleType) -> None:
    head = "$ reconcile --watch 1\n"
    assert settle.skeleton(head + "  ~ a  x  done\n  hold\n  + b  y  done\n") == settle.skeleton(
        head + "  + b  y  done\n  ~ a  x  done\n"
    )
    assert settle.skeleton(head + "  ~ a  x  done\n") != settle.skeleton(head + "  ~ a  z  done\n")
