"""Writes tests/contract/github-openapi.json: what GitHub's OpenAPI description says of requests that we make.

Run after ``npm ci`` in this folder, when :mod:`reconciler.adapters.forges.github` asks something new or for a
newer description: ``python tests/servers/github/slice.py``. Kept are paths, parameters and bodies without their
prose; objects in bodies are closed, so that a field that GitHub does not know is an error and not ignored.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PACKAGE = HERE / "node_modules/@octokit/openapi"
SLICE = HERE.parents[1] / "contract/github-openapi.json"

REPOSITORY = "/repos/{owner}/{repo}"
USED = {
    "/app": ["get"],
    "/app/installations/{installation_id}/access_tokens": ["post"],
    REPOSITORY: ["get"],
    f"{REPOSITORY}/branches/{{branch}}": ["get"],
    f"{REPOSITORY}/check-runs": ["post"],
    f"{REPOSITORY}/collaborators/{{username}}/permission": ["get"],
    f"{REPOSITORY}/commits/{{ref}}/check-runs": ["get"],
    f"{REPOSITORY}/commits/{{ref}}/statuses": ["get"],
    f"{REPOSITORY}/compare/{{basehead}}": ["get"],
    f"{REPOSITORY}/contents/{{path}}": ["get"],
    f"{REPOSITORY}/git/commits": ["post"],
    f"{REPOSITORY}/git/commits/{{commit_sha}}": ["get"],
    f"{REPOSITORY}/git/ref/{{ref}}": ["get"],
    f"{REPOSITORY}/git/trees": ["post"],
    f"{REPOSITORY}/issues/comments/{{comment_id}}": ["patch"],
    f"{REPOSITORY}/issues/{{issue_number}}": ["get"],
    f"{REPOSITORY}/issues/{{issue_number}}/comments": ["get", "post"],
    f"{REPOSITORY}/issues/{{issue_number}}/labels": ["delete", "post", "put"],
    f"{REPOSITORY}/labels": ["post"],
    f"{REPOSITORY}/pulls": ["get", "post"],
    f"{REPOSITORY}/pulls/{{pull_number}}": ["get", "patch"],
    f"{REPOSITORY}/pulls/{{pull_number}}/merge": ["put"],
    f"{REPOSITORY}/pulls/{{pull_number}}/requested_reviewers": ["post"],
    f"{REPOSITORY}/pulls/{{pull_number}}/reviews": ["get", "post"],
    f"{REPOSITORY}/statuses/{{sha}}": ["post"],
}
_PROSE = {"description", "summary", "example", "examples", "externalDocs", "title", "x-multi-segment"}


def cut(description: dict[str, Any], used: dict[str, list[str]]) -> dict[str, Any]:
    """These operations of a description, each with what a request of it may hold."""

    def plain(node: Any, *, names: bool = False) -> Any:
        """Without references and prose; ``names`` are keys that are not words of OpenAPI."""
        if isinstance(node, list):
            return [plain(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            found: Any = description
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            return plain(found)
        kept = {key: value for key, value in node.items() if names or key not in _PROSE}
        return {key: plain(value, names=key in ("properties", "content")) for key, value in kept.items()}

    paths: dict[str, Any] = {}
    for path, methods in used.items():
        for method in methods:
            operation = description["paths"][path][method]
            kept = {
                "parameters": plain(operation.get("parameters", [])),
                "responses": {"default": {"description": ""}},
            }
            if "requestBody" in operation:
                kept["requestBody"] = plain(operation["requestBody"])
                for media in kept["requestBody"]["content"].values():
                    closed(media["schema"])
            paths.setdefault(path, {})[method] = kept
    return paths


def closed(schema: dict[str, Any]) -> None:
    """Refuse what the schema does not name. Branches of one that names its properties only add conditions."""
    if "properties" in schema:
        schema.setdefault("additionalProperties", False)
    parts = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
    if "properties" not in schema:
        parts += [*schema.get("oneOf", []), *schema.get("anyOf", [])]
    for part in parts:
        closed(part)


def main() -> None:
    description = json.loads((PACKAGE / "generated/api.github.com.json").read_text())
    package = json.loads((PACKAGE / "package.json").read_text())
    info = {
        "title": "What is asked of GitHub",
        "version": description["info"]["version"],
        "license": {"name": package["license"]},
        "x-from": f"{package['name']} {package['version']}",
        "x-license": " ".join((PACKAGE / "LICENSE").read_text().split()),
    }
    result = {"openapi": description["openapi"], "info": info, "paths": cut(description, USED)}
    SLICE.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
