"""Text that others wrote, made harmless for where it is shown.

Names of slices, error messages of a training run, reasons in exceptions: all of it may come from whoever
writes a model. :func:`visible` makes it one line for a terminal; :func:`inert` and :func:`code` make it inline
Markdown that mentions nobody, closes nothing, links nowhere and ends no code span. :func:`mrkdwn` does
that for Slack; :func:`verbatim` and :func:`printed` are for the lines of differences and logs.
"""

from __future__ import annotations

import re
from unicodedata import category

_BREAK = "\u200b"
"""Zero-width space: a forge no longer recognises what it parts, and a person sees no difference."""

_ESCAPED = re.compile(r"([\\*|$~]|(?<!\w)_|_(?!\w))")
_LEADING = re.compile(r"^(\d{0,9})(>|[#+=.)-](?=[\s#=-]|$))")
_PARTED = (
    (re.compile(r"([@#!%&~^$])(?=\w)"), rf"\1{_BREAK}"),  # mentions, issues, merge requests, labels, snippets
    (re.compile(r"(?i)\b(GH)-(?=\d)"), rf"\1{_BREAK}-"),  # GitHub's other way to name an issue
    (re.compile(r":(?=//)"), rf":{_BREAK}"),  # links that need no brackets
    (re.compile(r"(?i)\b(www)\."), rf"\1{_BREAK}."),
    # A Gitea that reads `http:` takes the next address in the line for a link, were it in a code span.
    (re.compile(r"(?i)\b(https?|ftp|mailto|xmpp|javascript|data):"), rf"\1{_BREAK}:"),
    (re.compile(r"\](?=[(:\[])"), "] "),  # links and images that do
    (re.compile(r"<(?=[A-Za-z/!?])"), "< "),  # HTML, and our marker
)


def visible(text: str, limit: int = 2000) -> str:
    """One line without control characters, and without those that reorder or hide other characters."""
    kept = "".join(" " if c in "\t\n\r\v\f\x85\u2028\u2029" else c for c in text[: 4 * limit])
    kept = "".join(c for c in kept if category(c) not in ("Cc", "Cf", "Co", "Cs", "Cn"))
    kept = " ".join(kept.split())
    return kept if len(kept) <= limit else kept[: limit - 1].rstrip() + "…"


def inert(text: str, limit: int = 500) -> str:
    """Inline Markdown that reads as ``text`` and does nothing. Safe in a table cell and after a bullet."""
    safe = visible(text, limit).replace("`", "'")
    for pattern, replacement in _PARTED:
        safe = pattern.sub(replacement, safe)
    safe = _ESCAPED.sub(r"\\\1", safe)
    return _LEADING.sub(r"\1\\\2", safe)


def code(text: str, limit: int = 200) -> str:
    """A code span with ``text`` in it, in a table too; a dash where there is none."""
    safe = visible(text, limit).replace("`", "'").replace("<!", "< !").replace("|", "\\|")
    return f"`{safe}`" if safe else "-"


_CONTROL = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_MARKUP = re.compile(r"([*_~@#]|:(?=\S)|(?<=\w)\.(?=[A-Za-z]{2}))")  # styles, names, emoji, addresses


def mrkdwn(text: str, limit: int = 500) -> str:
    """Slack's markup that reads as ``text`` and does nothing: no mention, channel, link or style.

    ``&``, ``<`` and ``>`` are all that Slack takes for control (docs.slack.dev, Formatting message text); the
    rest is what its apps make of text by themselves.
    """
    safe = _MARKUP.sub(rf"\1{_BREAK}", visible(text, limit).replace("`", "'"))
    return "".join(_CONTROL.get(c, c) for c in safe)


def verbatim(text: str) -> str:
    """One line whose spaces mean something, of a difference or a log; `?` for what does not print."""
    return "".join(c if c.isprintable() else "?" for c in text.expandtabs(4))


_STYLED = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def printed(text: str) -> str:
    """A line of a program's log: without its colours, and where it wrote over itself, as it was left."""
    return verbatim(_STYLED.sub("", text).rstrip("\r").rpartition("\r")[2])
