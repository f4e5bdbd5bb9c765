"""Grids of images: the right image in the right cell, and paths that are refused."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imagevae.pictures import MOST_CELLS, PIXELS_PER_CELL, grid_png, save_png


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.float64) / 255


def test_each_image_stands_in_its_cell() -> None:
    levels = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8])
    picture = pixels(grid_png(levels.view(5, 1, 1, 1).expand(5, 1, 8, 8), 3))
    assert picture.shape == (2 * PIXELS_PER_CELL, 3 * PIXELS_PER_CELL, 3)
    for index, level in enumerate(levels.tolist()):
        row, column = divmod(index, 3)
        middle = picture[int((row + 0.45) * PIXELS_PER_CELL), int((column + 0.45) * PIXELS_PER_CELL)]
        assert middle == pytest.approx([level] * 3, abs=0.01)
    assert picture[int(1.45 * PIXELS_PER_CELL), int(2.45 * PIXELS_PER_CELL)] == pytest.approx([1.0] * 3)  # no image


def test_colour_and_labels() -> None:
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    assert pixels(grid_png(red, 1))[20, 20] == pytest.approx([1.0, 0.0, 0.0], abs=0.01)
    labelled = pixels(grid_png(red, 1, row_labels=("a row",), column_labels=("<script>",)))
    assert labelled.shape[0] > PIXELS_PER_CELL
    assert labelled.shape[1] > PIXELS_PER_CELL


def test_values_beyond_the_range_are_shown_at_its_ends() -> None:
    assert pixels(grid_png(torch.full((1, 1, 8, 8), 7.0), 1)).min() == 1.0


def test_the_same_images_give_the_same_bytes() -> None:
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert grid_png(images, 2) == grid_png(images, 2)


@pytest.mark.parametrize("number", [0, MOST_CELLS + 1])
def test_no_image_and_too_many_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match=f"a picture of {number:,} images cannot be drawn"):
        grid_png(torch.zeros(number, 1, 2, 2), 10)


def test_a_path_that_is_no_files_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere" / "x.png"):
        with pytest.raises(ValueError, match="a file in a folder that exists is needed"):
            save_png(path, b"")
    assert save_png(tmp_path / "x.png", b"picture").read_bytes() == b"picture"
