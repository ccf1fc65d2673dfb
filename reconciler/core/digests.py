"""Canonical JSON, digests, and the keys made from them (docs/keys.md tells them in words).

Every key is ``H(kind of key, the inputs it declares)`` and nothing else, so that an edit outside the
declared inputs leaves it alone. ``H`` is SHA-256 over canonical JSON, in the spirit of RFC 8785: sorted keys,
no white space, UTF-8, and no NaN or infinity.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

KEY_LENGTH = 12
"""Hex digits of a key that names carry: 48 bits, so a million keys of one model collide with p < 0.002."""


def plain(value: Any, *, defaults: bool = True) -> Any:
    """``value`` as JSON's own types; pydantic models by alias, without unset optionals."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=not defaults)
    if isinstance(value, Mapping):
        return {str(k): plain(v, defaults=defaults) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v, defaults=defaults) for v in value]
    return value


def canonical_json(value: Any) -> str:
    """One text for one value. Raises ValueError for NaN and infinities."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256(content: bytes | str) -> str:
    """``sha256:`` and 64 hex digits."""
    data = content.encode() if isinstance(content, str) else content
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_of(kind: str, **inputs: Any) -> str:
    """The digest of a thing of ``kind`` with these declared inputs.

    A document's field at its default counts like one that is not there: a later version of trueup, with a field
    more, must find the digests that an earlier one recorded. So a default never changes its meaning.
    """
    return sha256(canonical_json(plain({"kind": kind, **inputs}, defaults=False)))


def short(digest: str) -> str:
    """The part of a digest or key that people and names carry."""
    return digest.removeprefix("sha256:")[:KEY_LENGTH]


def artifact_digest(files: Iterable[tuple[str, str]]) -> str:
    """Identity of a model version.

    ``files`` are (path relative to the model's root with ``/`` separators, hex SHA-256 of the content)
    of every file of the model. The digest is SHA-256 over the lines ``PATH\\0HEX\\n`` sorted by path.
    """
    lines = "".join(f"{path}\0{hexdigest}\n" for path, hexdigest in sorted(files))
    return sha256(lines)


def dvc_listing(files: Mapping[str, str]) -> bytes:
    """The listing of a folder (path -> md5 of its bytes) as DVC 3 writes it; its md5 is the folder's."""
    return json.dumps([{"md5": md5, "relpath": path} for path, md5 in sorted(files.items())]).encode()


def training_key(*, section: Any, source_tree: str, train_md5: str, seed: int, recipe: str) -> str:
    """What a training is: hyperparameters and template, code, data, seed. Twelve hex digits."""
    return short(
        digest_of("training", section=section, source=source_tree, data=train_md5, seed=seed, recipe=recipe)
    )


def evidence_key(measurement: str, recipe: str, inputs: Mapping[str, Any]) -> str:
    """What a measurement is: its kind, its recipe and the inputs its catalogue entry declares."""
    return short(digest_of("evidence", measurement=measurement, recipe=recipe, inputs=dict(inputs)))
