"""What a model's files are, by name and by content, and which code its pickles would run. Nothing is loaded.

Step `files` calls :func:`look`. Pickles are read by picklescan (https://github.com/mmaitre314/picklescan),
also those inside PyTorch's and numpy's files. What it knows as harmless, :data:`HARMLESS` and what the Model
document allows (``files.globals``) is no finding; what it knows as dangerous always is.
"""

from __future__ import annotations

import codecs
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from picklescan.scanner import ScanResult

TYPES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((".json", ".yaml", ".yml", ".txt", ".md", ".csv", ".py", ".toml"), ("text",)),
    ".pt": ("zip", "pickle"),
    ".pth": ("zip", "pickle"),
    ".pkl": ("pickle",),
    ".pickle": ("pickle",),
    ".joblib": ("pickle",),  # a compressed one cannot be looked into
    ".npy": ("numpy",),
    ".npz": ("zip",),
    ".parquet": ("parquet",),
    ".safetensors": ("binary",),
    ".onnx": ("binary",),
}
"""Suffix -> what such a file may hold. A model allows more in its ``files.types``: they may hold anything but
a program."""
NAMES = {"MLmodel": ("text",)}
"""Files without a suffix."""

HARMLESS = {
    "_codecs.encode",
    "builtins.bytearray",
    "builtins.complex",
    "builtins.frozenset",
    "builtins.range",
    "builtins.set",
    "builtins.slice",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray.scalar",
    "torch.Size",
    "torch._utils._rebuild_parameter",
}
"""Beyond what picklescan knows: they make a value of their arguments and do nothing else."""

_MAGIC = (
    (b"\x7fELF", "program"),
    (b"MZ", "program"),
    (b"\xfe\xed\xfa\xce", "program"),
    (b"\xfe\xed\xfa\xcf", "program"),
    (b"\xce\xfa\xed\xfe", "program"),
    (b"\xcf\xfa\xed\xfe", "program"),
    (b"\xca\xfe\xba\xbe", "program"),
    (b"PK\x03\x04", "zip"),
    (b"\x93NUMPY", "numpy"),
    (b"PAR1", "parquet"),
    *((bytes((0x80, protocol)), "pickle") for protocol in range(2, 6)),
)
_HEAD = 4096


class Contents(NamedTuple):
    """``unexpected``: file and why. ``unsafe``: file and what it would import, or why it cannot be read."""

    files: int
    size: int
    scanned: int
    unexpected: tuple[str, ...]
    unsafe: tuple[str, ...]


def look(model: Path, allowed: Collection[str] = ()) -> Contents:
    """Every file below ``model``. ``allowed``: suffixes (``.onnx``) and globals (``sklearn.tree.X``) that this
    model may have besides."""
    unexpected, unsafe = [], []
    files = size = scanned = 0
    for path in sorted(model.rglob("*")):
        name = path.relative_to(model).as_posix()
        if path.is_symlink():
            unexpected.append(f"{name} (a link)")
        if not path.is_file():
            continue
        files, size = files + 1, size + path.stat().st_size
        holds = _holds(path)
        if why := _unexpected(path, holds, allowed):
            unexpected.append(f"{name} ({why})")
        if holds == "text" and path.suffix in TYPES and "text" in TYPES[path.suffix]:
            continue
        scanned += 1
        unsafe += [f"{name}: {found}" for found in _unsafe(path, holds, allowed)]
    return Contents(files, size, scanned, tuple(unexpected), tuple(unsafe))


def _holds(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if b"\0" not in head:
        try:
            codecs.getincrementaldecoder("utf-8")().decode(head)
        except UnicodeDecodeError:
            pass
        else:
            return "text"
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), "binary")


def _unexpected(path: Path, holds: str, allowed: Collection[str]) -> str:
    if holds == "program":
        return "a program"
    if path.suffix and path.suffix in allowed:
        return ""
    known = TYPES.get(path.suffix) if path.suffix else NAMES.get(path.name)
    if known is None:
        return "such files are not allowed"
    return "" if holds in known else f"holds {holds}"


def _unsafe(path: Path, holds: str, allowed: Collection[str]) -> list[str]:
    from picklescan.scanner import SafetyLevel, scan_file_path

    if holds == "zip" and (broken := _broken(path)):
        return [broken]
    try:
        result: ScanResult = scan_file_path(str(path))
    except Exception as error:  # whatever a malformed file raises, it was not read
        return [f"cannot be scanned: {type(error).__name__}"]
    known = {*HARMLESS, *(name for name in allowed if not name.startswith("."))}
    found = {
        f"{each.module}.{each.name}"
        for each in result.globals
        if each.safety is SafetyLevel.Dangerous
        or (each.safety is SafetyLevel.Suspicious and f"{each.module}.{each.name}" not in known)
    }
    return sorted(found) or (["cannot be scanned to its end"] if result.scan_err else [])


def _broken(path: Path) -> str:
    """Why not every part of an archive can be read, as other readers may all the same."""
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError) as error:
        return f"cannot be scanned: {type(error).__name__}"
    return f"cannot be scanned: {bad} is damaged" if bad else ""
