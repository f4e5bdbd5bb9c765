"""A folder of photographs and masks to test with."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_pairs(folder: Path, num_pairs: int = 12, size: tuple[int, int] = (20, 14)) -> Path:
    """Photographs of noise, brighter in a rectangle, whose mask is that rectangle."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    width, height = size
    for number in range(num_pairs):
        mask = np.zeros((height, width), dtype=np.uint8)
        left, top = rng.integers(1, width // 2), rng.integers(1, height // 2)
        mask[top : top + height // 2, left : left + width // 2] = 255
        photograph = (rng.integers(0, 100, (height, width, 3)) + mask[..., None] // 2).astype(np.uint8)
        Image.fromarray(photograph).save(folder / "images" / f"p{number:02}.png")
        Image.fromarray(mask).save(folder / "masks" / f"p{number:02}.png")
    return folder
