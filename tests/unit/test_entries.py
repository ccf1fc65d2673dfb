"""A list in a person's file: one entry more, changed or gone, and every other byte as it was."""

from __future__ import annotations

import pytest

from reconciler.core.entries import with_entries
from reconciler.core.errors import Terminal
from reconciler.core.strict_yaml import read

FILE = """\
# Exceptions of production
apiVersion: trueup.dev/v1
kind: Exceptions
# why we hold
holds:
  # audit
  - reason: "yearly audit"  # Ann asked
    until: 2026-03-05T00:00:00Z

  # about b
  - {reason: b, until: "2026-03-05T00:00:00+01:00"}
  # third
  - reason: c
# about waivers
waivers: [{gate: accuracy, reason: 'x y'}]
# the end
"""
NEW = {"reason": "new: it's", "until": "2026-04-01T00:00:00Z"}
ENTRY = '  - reason: "new: it\'s"\n    until: "2026-04-01T00:00:00Z"\n'


def test_one_more_goes_below_the_last_and_above_the_next_comment() -> None:
    assert with_entries(FILE, "holds", [0, 1, 2, NEW], "x") == FILE.replace(
        "  - reason: c\n", f"  - reason: c\n{ENTRY}"
    )


@pytest.mark.parametrize(
    ("kept", "gone"),
    [
        ([1, 2], FILE[FILE.index("  # audit") : FILE.index("\n  # about b")]),
        ([0, 2], FILE[FILE.index("\n  # about b") : FILE.index("  # third")]),
        ([0, 1], FILE[FILE.index("  # third") : FILE.index("# about waivers")]),
    ],
)
def test_one_that_goes_takes_its_own_comment_and_nobody_elses(kept: list[int], gone: str) -> None:
    assert with_entries(FILE, "holds", kept, "x") == FILE.replace(gone, "")


def test_a_changed_one_keeps_its_place_and_the_comment_above_it() -> None:
    old = FILE[FILE.index('  - reason: "yearly') : FILE.index("\n  # about b")]
    assert with_entries(FILE, "holds", [(0, NEW), 1, 2], "x") == FILE.replace(old, ENTRY)


def test_the_last_one_takes_the_field_with_it() -> None:
    begin, end = FILE.index("holds:"), FILE.index("# about waivers")
    assert with_entries(FILE, "holds", [], "x") == FILE[:begin] + FILE[end:]


def test_a_list_on_one_line_is_written_below_each_other() -> None:
    made = with_entries(FILE, "waivers", [0, {"gate": "f1", "reason": "z"}], "x")
    written = "waivers:\n  - gate: accuracy\n    reason: x y\n  - gate: f1\n    reason: z\n"
    assert made == FILE.replace("waivers: [{gate: accuracy, reason: 'x y'}]\n", written)


@pytest.mark.parametrize(
    "text", ["kind: Exceptions", "kind: Exceptions\nholds: []\n", "kind: Exceptions\nholds:\n"]
)
def test_a_file_without_the_list(text: str) -> None:
    assert with_entries(text, "holds", [NEW], "x") == f"kind: Exceptions\nholds:\n{ENTRY}"


@pytest.mark.parametrize(
    "holds",
    [
        "holds:\n- reason: a\n- reason: b\n",
        "holds:\n    -   reason: a\n    -   reason: b\n",
        "holds:\n  -\n    reason: a\n  - reason: b\n",
        "holds: [\n  {reason: a},\n  {reason: b}\n]\n",
        "holds:  # two\n\n  - reason: |\n      a\n  - reason: b\n",
    ],
)
def test_however_a_list_is_written_it_says_what_was_wanted(holds: str) -> None:
    for text in (f"kind: E\n{holds}# end\n", f"{holds}kind: E\n"):
        before = read(text, "x").value["holds"]
        made = with_entries(text, "holds", [0, NEW], "x")
        assert read(made, "x").value == {"kind": "E", "holds": [before[0], NEW]}
        assert ("# end" in made) == ("# end" in text)


@pytest.mark.parametrize("text", ["'holds':\n  - reason: a\nkind: E\n", "{kind: E, holds: [{reason: a}]}\n"])
def test_what_cannot_be_edited_is_left_to_its_author(text: str) -> None:
    with pytest.raises(Terminal, match="edit it by hand"):
        with_entries(text, "holds", [0, NEW], "x")
