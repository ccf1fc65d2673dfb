"""A small library that a model brings as a wheel, and a release of it that became slower."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

QUICK = "return pixels / INK"
SLOW = "return np.array([[pixel / INK for pixel in row] for row in pixels], dtype=pixels.dtype)"
"""The same numbers: a new release does in Python what the old one did in C."""


def bring(source: Path, version: str, body: str = QUICK) -> None:
    """Put a wheel of inkwell into the ``src`` of digits, in place of the one that is there, and use it."""
    from hatchling.builders.wheel import WheelBuilder

    wheels = source / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        library = shutil.copytree(Path(__file__).parent / "inkwell", Path(folder) / "inkwell")
        for file, old, new in (("pyproject.toml", '"1.0"', f'"{version}"'), ("inkwell.py", QUICK, body)):
            text = (library / file).read_text()
            assert old in text
            (library / file).write_text(text.replace(old, new))
        (wheel,) = WheelBuilder(str(library)).build(directory=str(wheels))
    assert Path(wheel).name.startswith(f"inkwell-{version}-")
    network = source / "network.py"
    text = network.read_text()
    if "inkwell" not in text:
        assert "pixels / INK" in text
        text = text.replace("import torch\n", "import torch\nfrom inkwell import darkness\n", 1)
        network.write_text(text.replace("pixels / INK", "darkness(pixels)"))
