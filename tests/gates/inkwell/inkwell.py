"""How dark the pixels of a scan are, from 0 to 1."""

from __future__ import annotations

import numpy as np

INK = 16.0


def darkness(pixels: np.ndarray) -> np.ndarray:
    return pixels / INK
