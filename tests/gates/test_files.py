"""What a model's files say of it: code in pickles, programs, loose requirements, another interface."""

from __future__ import annotations

import json
import os
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.gates

Edit = Callable[[Path], None]


LOADED = Path(tempfile.gettempdir()) / "a-model-was-loaded"


class Payload:
    """Pickled, it is a call of os.system; nothing here ever reads it back."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {LOADED}",)


def pickled(folder: Path) -> None:
    (folder / "artifacts/weights/scaler.pkl").write_bytes(pickle.dumps(Payload()))


def hidden_in_weights(folder: Path) -> None:
    """Among the tensors of a PyTorch archive, which torch.load would run."""
    path = folder / "artifacts/weights/network.pt"
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (main,) = (name for name in parts if name.endswith("data.pkl"))
    parts[main] = pickle.dumps(Payload())
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def called_json(folder: Path) -> None:
    (folder / "artifacts/weights/network.json").write_bytes(pickle.dumps(Payload()))


def program(folder: Path) -> None:
    (folder / "artifacts/weights/fast.so").write_bytes(b"\x7fELF" + bytes(60))


def windows_program(folder: Path) -> None:
    (folder / "setup.exe").write_bytes(b"MZ" + bytes(60))


def program_called_weights(folder: Path) -> None:
    (folder / "artifacts/weights/more.pt").write_bytes(b"\x7fELF" + bytes(60))


def requirement(old: str, new: str) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / "requirements.txt"
        lines = path.read_text().splitlines()
        changed = [new if line.partition("=")[0] == old else line for line in lines]
        assert changed != lines
        path.write_text("\n".join(changed))

    return edit


def without_hashes(folder: Path) -> None:
    path = folder / "environment.json"
    said = json.loads(path.read_text())
    said["packages"]["sqlparse"]["hashes"] = []
    path.write_text(json.dumps(said))


def signed(change: Callable[[list[dict[str, Any]], list[dict[str, Any]]], object]) -> Edit:
    """An edit of the signature's lists of inputs and outputs."""

    def edit(folder: Path) -> None:
        path = folder / "MLmodel"
        said = yaml.safe_load(path.read_text())
        inputs, outputs = (json.loads(said["signature"][part]) for part in ("inputs", "outputs"))
        change(inputs, outputs)
        said["signature"] |= {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs)}
        path.write_text(yaml.safe_dump(said))

    return edit


def older(folder: Path) -> None:
    path = folder / "environment.json"
    said = json.loads(path.read_text())
    said["packages"]["torch"]["version"] = "2.12.0"
    path.write_text(json.dumps(said))


FAULTS: dict[str, list[tuple[Edit, str]]] = {
    "safe-files": [
        (pickled, "artifacts/weights/scaler.pkl: posix.system"),
        (hidden_in_weights, "artifacts/weights/network.pt: posix.system"),
        (called_json, "artifacts/weights/network.json: posix.system"),
    ],
    "file-types": [
        (called_json, "artifacts/weights/network.json (holds pickle)"),
        (program, "artifacts/weights/fast.so (a program)"),
        (windows_program, "setup.exe (a program)"),
        (program_called_weights, "artifacts/weights/more.pt (a program)"),
    ],
    "pinned": [
        (requirement("torch", "torch>=2"), "torch>=2"),
        (requirement("numpy", "numpy==2.*"), "numpy==2.*"),
    ],
    "hashed": [
        (requirement("pandas", "pandas==1.0"), "pandas==1.0 (trained with "),
        (without_hashes, "sqlparse "),
    ],
    "signature": [
        (signed(lambda i, _: i.pop(3)), "input pixel_03 is gone"),
        (signed(lambda i, _: i[7].update(type="string")), "input pixel_08 was int64 and is string"),
        (signed(lambda i, _: i.append({"name": "age", "type": "double"})), "input age is new and required"),
        (signed(lambda _, o: o.pop()), "output probability_9 is gone"),
        (signed(lambda _, o: o[0].update(type="string")), "output prediction was int64 and is string"),
    ],
}
"""Gate -> faults, all planted at once, and how the evidence names each. One at a time: test_step_files.py."""


@pytest.mark.parametrize("gate", FAULTS)
def test_faults_are_caught_by_their_gate(digits, good, gate) -> None:
    def plant(folder: Path) -> None:
        for edit, _ in FAULTS[gate]:
            edit(folder)

    planted = digits.planted(good, plant)
    evidence = digits.measure("files", planted, good)
    found = digits.judged(evidence, planted, good, environment="staging")[gate]
    assert found.verdict == ("review" if gate == "hashed" else "block"), found
    assert found.value == len(FAULTS[gate])
    names = evidence.metrics[found.metric.partition(".")[2]].overall.candidate.named(30)
    assert [said for _, said in FAULTS[gate] if said not in names] == []
    assert FAULTS[gate][0][1] in found.why
    assert not LOADED.exists()


def test_an_unharmed_version_passes_every_gate(digits, good, better) -> None:
    first = digits.judged(digits.measure("files", good), good)
    gates = {"safe-files", "file-types", "pinned", "hashed", "size"}
    assert {gate: said.verdict for gate, said in first.items()} == dict.fromkeys(gates, "pass")
    champion = digits.planted(good, older)
    second = digits.measure("files", better, champion)
    verdicts = digits.judged(second, better, champion)
    assert {gate: said.verdict for gate, said in verdicts.items()} == dict.fromkeys(
        {*gates, "signature"}, "pass"
    )
    changed = second.metrics["changed-libraries"].overall.candidate
    assert (changed.value, changed.n > 50) == (1, True)
    assert changed.named(30).startswith("torch 2.12.0 -> 2.")


def test_what_a_model_may_besides_is_said_in_its_document(digits, good) -> None:
    """It counts for what it names; what runs code is refused all the same."""

    def allow(folder: Path) -> None:
        path = folder / "model.yaml"
        said = "files: {types: [.ubj], globals: [collections.Counter, posix.system]}\n"
        path.write_text(path.read_text() + said)

    def plant(folder: Path) -> None:
        from collections import Counter

        (folder / "artifacts/weights/trees.ubj").write_bytes(bytes(range(16)))
        (folder / "artifacts/weights/counts.pkl").write_bytes(pickle.dumps(Counter("aab")))

    planted = digits.planted(good, plant)
    without = digits.judged(digits.measure("files", planted), planted)
    assert (without["safe-files"].verdict, without["file-types"].verdict) == ("block", "block")
    allowing = digits.edited(allow)
    allowed = allowing.judged(allowing.measure("files", planted), planted)
    assert (allowed["safe-files"].verdict, allowed["file-types"].verdict) == ("pass", "pass")
    harmful = digits.planted(planted, pickled)
    still = allowing.judged(allowing.measure("files", harmful), harmful)
    assert still["safe-files"].verdict == "block"
