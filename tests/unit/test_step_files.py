"""What step `files` counts, by its pure functions and on small folders; nothing is trained or loaded."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.environment import Installed, Package, lock_text, read_installed, read_requirements
from workflows.interface import breaking, fields, openapi
from workflows.steps.contents import look
from workflows.steps.files import breaking_changes, changed_libraries, dependencies

TYPES = ("boolean", "integer", "long", "float", "double", "string", "binary", "datetime")
names = st.text("abcdefgh_", min_size=1, max_size=5)
columns = st.lists(
    st.fixed_dictionaries({"name": names, "type": st.sampled_from(TYPES), "required": st.booleans()}),
    unique_by=lambda column: column["name"],
    min_size=1,
    max_size=8,
)


def document(inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> dict[str, Any]:
    return openapi("m", "1", {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs), "params": None})


def changes(
    old: list[dict[str, Any]],
    new: list[dict[str, Any]],
    outputs: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], []),
) -> list[str]:
    return list(breaking(document(old, outputs[0]), document(new, outputs[1])))


@given(columns, columns)
def test_what_is_the_same_breaks_nobody(inputs, outputs) -> None:
    assert changes(inputs, inputs, (outputs, outputs)) == []


@given(columns, st.data())
def test_an_input_that_is_gone_always_breaks(inputs, data) -> None:
    gone = data.draw(st.sampled_from(inputs))
    assert f"input {gone['name']} is gone" in changes(inputs, [c for c in inputs if c is not gone])


@given(columns, st.data())
def test_an_input_that_need_not_be_there_any_more_never_breaks(inputs, data) -> None:
    freed = data.draw(st.sampled_from(inputs))
    eased = [{**c, "required": False} if c is freed else c for c in inputs]
    assert changes(inputs, eased) == []
    asked = [{**c, "required": True} if c is freed else c for c in inputs]
    expected = [] if freed["required"] else [f"input {freed['name']} is required now"]
    assert changes(inputs, asked) == expected


@given(columns, names, st.booleans())
def test_an_input_more_breaks_where_it_is_required(inputs, name, required) -> None:
    inputs = [c for c in inputs if c["name"] != name]
    more = [*inputs, {"name": name, "type": "long", "required": required}]
    assert changes(inputs, more) == ([f"input {name} is new and required"] if required else [])


@given(columns, columns)
def test_outputs_may_be_more_and_not_fewer_or_others(outputs, more) -> None:
    known = {c["name"] for c in outputs}
    added = [*outputs, *(c for c in more if c["name"] not in known)]
    assert changes([], [], (outputs, added)) == []
    fewer = changes([], [], (added, outputs))
    assert fewer == [f"output {c['name']} is gone" for c in added if c["name"] not in known]


@pytest.mark.parametrize(
    ("old", "new", "takes"),
    [
        ("integer", "long", True),
        ("long", "integer", False),
        ("long", "double", True),
        ("double", "long", False),
        ("float", "double", True),
        ("double", "float", True),
        ("long", "string", False),
        ("string", "double", False),
        ("boolean", "long", False),
        ("string", "datetime", False),
    ],
)
def test_a_wider_type_takes_what_the_narrower_took(old: str, new: str, takes: bool) -> None:
    found = changes([{"name": "a", "type": old}], [{"name": "a", "type": new}])
    assert (found == []) is takes
    assert changes([], [], ([{"name": "a", "type": old}], [{"name": "a", "type": new}]))


def test_without_a_signature_there_is_nothing_to_compare_or_everything_is_lost() -> None:
    signed, bare = document([{"name": "a", "type": "long"}], []), openapi("m", "1", None)
    assert list(breaking(signed, bare)) == ["there is no signature any more"]
    assert breaking_changes(signed, None).value is None
    unsigned = breaking_changes(signed, bare)
    assert (unsigned.value, unsigned.note) == (None, "the champion has no signature to compare with")


def test_a_signature_of_nested_types_and_of_columns_without_names() -> None:
    nested = [
        {"type": "array", "items": {"type": "double"}, "name": "series"},
        {"type": "object", "properties": {"x": {"type": "long"}}, "name": "point"},
        {"type": "map", "values": {"type": "string"}, "name": "tags"},
    ]
    assert changes(nested, nested) == []
    other = [{**nested[0], "items": {"type": "long"}}, *nested[1:]]
    assert changes(nested, other) == ["input series was array and is array"]
    assert changes([{"type": "double"}, {"type": "long"}], [{"type": "double"}]) == ["input 1 is gone"]
    tensor = {"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 4]}}
    assert fields(document([tensor], [tensor])) == 2


# --- requirements -----------------------------------------------------------------------------------------


def test_requirements_are_read_as_pip_reads_them() -> None:
    text = """
# a comment
numpy==2.4.6
Torch-Vision[extra]==0.2 ; python_version > "3"  # said
pandas>=2 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
scipy==1.*
x @ https://example.org/x.whl
-r more.txt
two==1,!=2
"""
    lines = [(line.name, line.version, line.hashes) for line in read_requirements(text)]
    assert lines == [
        ("numpy", "2.4.6", ()),
        ("torch-vision", "0.2", ()),
        ("pandas", "", ("sha256:aa", "sha256:bb")),
        ("scipy", "", ()),
        ("x", "", ()),
        ("-r more.txt", "", ()),
        ("two", "", ()),
    ]


def test_what_is_installed_here_is_recorded_with_the_hashes_of_the_lock(tmp_path: Path) -> None:
    found = Installed.here(["pandas==3"], lock_text())
    assert {"pandas", "numpy", "python-dateutil"} <= found.packages.keys()
    assert all(package.hashes for package in found.packages.values())
    assert found == Installed.here(["pandas==3"], lock_text())
    found.write(tmp_path)
    assert read_installed(tmp_path) == found
    bare = Installed.here(["pandas==3"], "")
    assert not any(package.hashes for package in bare.packages.values())
    assert bare.digest != found.digest


def installed(**versions: str) -> Installed:
    packages = {name: Package(version=v, hashes=("sha256:1",)) for name, v in versions.items()}
    return Installed(python="3.11.7", platform="linux-x86_64", packages=packages)


@pytest.mark.parametrize(
    ("text", "known", "unpinned", "unhashed"),
    [
        ("a==1\nb==2", installed(a="1", b="2", c="3"), 0, 0),
        ("a>=1\nb==2", installed(a="1", b="2"), 1, 1),
        ("a==1.5", installed(a="1"), 0, 1),
        ("a==1\nb==2", None, 0, 2),
        ("a==1 --hash=sha256:1", None, 0, 0),
        ("a==1", Installed(python="3", platform="p", packages={"a": Package(version="1")}), 0, 1),
        ("a==1", installed(b="2"), 0, 1),
    ],
)
def test_loose_and_unhashed_requirements(
    text: str, known: Installed | None, unpinned: int, unhashed: int
) -> None:
    found = dependencies(list(read_requirements(text)), known)
    assert (found["unpinned"].value, found["unhashed"].value) == (unpinned, unhashed)
    assert all(estimate.usable for estimate in found.values())


def test_without_requirements_nothing_was_measured() -> None:
    assert not any(each.usable for each in dependencies(None, installed(a="1")).values())
    assert not any(each.usable for each in dependencies([], None).values())


def test_libraries_that_changed_are_named(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, known in ((old, installed(a="1", b="2")), (new, installed(a="1.1", c="3"))):
        folder.mkdir()
        known.write(folder)
        (folder / "requirements.txt").write_text(f"a=={known.packages['a'].version}\n")
    found = changed_libraries(new, old)
    assert (found.value, found.n) == (3, 4)
    assert found.named(30) == "a 1 -> 1.1, b 2 -> none, c none -> 3"
    assert changed_libraries(new, None).value is None
    (old / "environment.json").unlink()
    found = changed_libraries(new, old)
    assert (found.value, found.n) == (1, 1)
    assert "of the requirements alone" in found.note


# --- files ------------------------------------------------------------------------------------------------


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("false",)


HARMLESS = {
    "MLmodel": b"flavors: {}\n",
    "code/network.py": b"import torch\n",
    "code/__init__.py": b"",
    "weights/values.npy": b"",
    "weights/scaler.pkl": pickle.dumps({"mean": 1.5, "names": {"a", "b"}}),
    "weights/array.pkl": pickle.dumps(np.arange(3.0)),
}


def folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    if "weights/values.npy" in files and not files["weights/values.npy"]:
        np.save(root / "weights/values.npy", np.arange(4))
    return root


def test_files_of_a_model_are_what_they_should_be(tmp_path: Path) -> None:
    found = look(folder(tmp_path, HARMLESS))
    assert (found.files, found.unexpected, found.unsafe) == (6, (), ())
    assert found.size == sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("name", "content", "unexpected", "unsafe"),
    [
        ("a.pkl", pickle.dumps(Payload()), "", "posix.system"),
        ("a.pkl", pickle.dumps(Payload(), 0), "holds text", "posix.system"),
        ("a.pt", pickle.dumps(Payload()), "", "posix.system"),
        ("a.joblib", pickle.dumps(Path), "", "pathlib.Path"),
        ("a.joblib", b"\x78\x9c" + bytes(60), "holds binary", ""),
        ("a.json", pickle.dumps(Payload()), "holds pickle", "posix.system"),
        ("a.py", b"\x00\x01", "holds binary", ""),
        ("a.so", b"\x7fELF" + bytes(60), "a program", ""),
        ("a.ubj", b"\x7fELF" + bytes(60), "a program", ""),
        ("a.exe", b"MZ" + bytes(60), "a program", ""),
        ("a.sh", b"#!/bin/sh\n", "such files are not allowed", ""),
        ("run", b"#!/bin/sh\n", "such files are not allowed", ""),
        ("a.npz", b"PK\x03\x04" + bytes(60), "", "cannot be scanned: BadZipFile"),
    ],
)
def test_a_file_that_is_none_of_a_model(
    tmp_path: Path, name: str, content: bytes, unexpected: str, unsafe: str
) -> None:
    found = look(folder(tmp_path, {**HARMLESS, name: content}), (".ubj",))
    assert found.unexpected == ((f"{name} ({unexpected})",) if unexpected else ())
    assert found.unsafe == ((f"{name}: {unsafe}",) if unsafe else ())


def test_an_archive_is_looked_into_and_a_damaged_one_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(Payload()))
        archive.writestr("a/data/0", bytes(64))
    assert look(tmp_path).unsafe == ("a.pt: posix.system",)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"system", b"sYstem", 1))  # its checksum is another now
    assert look(tmp_path).unsafe == ("a.pt: cannot be scanned: a/data.pkl is damaged",)


def test_an_array_of_objects_is_a_pickle(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([Payload()], dtype=object), allow_pickle=True)
    assert look(tmp_path).unsafe == ("a.npy: posix.system",)


def test_a_link_is_none_of_a_models_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to("/etc/hostname")
    assert look(tmp_path).unexpected == ("a.txt (a link)",)
