"""Whether a request is one that GitHub documents: the OpenAPI slice beside this file, and nothing beyond it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from openapi_core import OpenAPI
from openapi_core.testing import MockRequest

_SLICE = json.loads((Path(__file__).parent / "github-openapi.json").read_text())
_OPENAPI = OpenAPI.from_dict(_SLICE)
_MANY_SEGMENTS = ("ref", "basehead", "path")


def _pattern(template: str) -> re.Pattern[str]:
    def part(found: re.Match[str]) -> str:
        return f"(?P<{found[1]}>{'.+' if found[1] in _MANY_SEGMENTS else '[^/]+'})"

    return re.compile(re.sub(r"\{(\w+)\}", part, template))


# What has more fixed parts comes first: `commits/{ref}/statuses` before `commits/{ref}`.
_TEMPLATES = [(path, _pattern(path)) for path in sorted(_SLICE["paths"], key=lambda path: -path.count("/"))]


def check(request: httpx.Request) -> None:
    """Fails for a path, method, parameter or field that GitHub does not know; for a wrong value; for none."""
    path = request.url.path
    template, found = next(((t, m) for t, p in _TEMPLATES if (m := p.fullmatch(path))), ("", None))
    operation: Any = _SLICE["paths"].get(template, {}).get(request.method.lower())
    assert found is not None, f"GitHub has no {path}"
    assert operation is not None, f"GitHub has no {request.method} {path}"
    known = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"}
    assert set(request.url.params) <= known, (
        f"{request.method} {path} knows no {set(request.url.params) - known}"
    )
    assert "requestBody" in operation or not request.content, f"{request.method} {path} has no body"
    assert request.headers["X-GitHub-Api-Version"] == "2022-11-28"
    parts = {name: quote(value, safe="") for name, value in found.groupdict().items()}
    asked = MockRequest(
        "https://api.github.com",
        request.method,
        template.format(**parts),
        args=dict(request.url.params),
        headers=dict(request.headers),
        data=request.content or None,
    )
    _OPENAPI.validate_request(asked)
