"""Grids of images as PNG, with a label beside each row or below each image."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
from jaxtyping import Float
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from torch import Tensor

from latent.training.files import check_place, write_atomically

PIXELS_PER_CELL = 56  # of the shorter side of an image on the page, at least
DPI = 100
MOST_CELLS = 2_000  # of one picture
GREY = "0.35"
WINDOW = "#d62728"


def grid_png(
    images: Float[Tensor, "N C H W"],
    num_columns: int,
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    windows: Float[Tensor, "N R 4"] | None = None,
) -> bytes:
    """N images between 0 and 1 in rows of `num_columns`, the first row by row; one channel is shown in grey.

    Each image's `windows` are framed: left, top, right and bottom in pixels counted from 1, as far as they are in it.

    Raises ValueError for none, or for more than a picture can hold.
    """
    num_images, _, height, width = images.shape
    if not 1 <= num_images <= MOST_CELLS:
        raise ValueError(f"a picture of {num_images:,} images cannot be drawn; ask for 1 to {MOST_CELLS:,}")
    num_rows = math.ceil(num_images / num_columns)
    sheet = _sheet(images, num_rows, num_columns)
    scale = max(1.0, PIXELS_PER_CELL / min(height, width))
    left = 0.12 * max((len(label) for label in row_labels), default=0)  # inches: about a letter of the font
    top = 0.25 if column_labels else 0.0
    inner = (scale * width * num_columns / DPI, scale * height * num_rows / DPI)
    outer = (inner[0] + left, inner[1] + top)
    with matplotlib.style.context("default"):
        figure = Figure(figsize=outer, dpi=DPI)
        axes = figure.add_axes((left / outer[0], 0.0, inner[0] / outer[0], inner[1] / outer[1]))
        axes.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        axes.tick_params(length=0, colors=GREY, labelsize=9, labeltop=True, labelbottom=False)
        axes.set_yticks([(row + 0.5) * (height + 1) for row in range(len(row_labels))], row_labels, parse_math=False)
        axes.set_xticks(
            [(column + 0.5) * (width + 1) for column in range(len(column_labels))], column_labels, parse_math=False
        )
        if windows is not None:
            frames = _frames(windows, num_columns, height, width)
            axes.add_collection(LineCollection(frames, colors=WINDOW, linewidths=1.2))
            axes.set(xlim=(-0.5, sheet.shape[1] - 0.5), ylim=(sheet.shape[0] - 0.5, -0.5))
        for spine in axes.spines.values():
            spine.set_visible(False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _sheet(images: Float[Tensor, "N C H W"], num_rows: int, num_columns: int) -> Float[np.ndarray, "h w *c"]:
    """The images on one canvas, a line of white between them and where there are none."""
    num_images, num_channels, height, width = images.shape
    sheet = np.ones((num_rows, num_columns, height + 1, width + 1, 3 if num_channels == 3 else 1))
    shown = images.clamp(0, 1).double().cpu().numpy().transpose(0, 2, 3, 1)
    shown = shown if num_channels in (1, 3) else shown.mean(-1, keepdims=True)
    for index in range(num_images):
        sheet[divmod(index, num_columns)][:height, :width] = shown[index]
    canvas = sheet.swapaxes(1, 2).reshape(num_rows * (height + 1), num_columns * (width + 1), -1)
    return canvas[..., 0] if canvas.shape[-1] == 1 else canvas


def _frames(
    windows: Float[Tensor, "N R 4"], num_columns: int, height: int, width: int
) -> list[Float[np.ndarray, "5 2"]]:
    """Closed lines on the sheet, whose pixels' middles are counted from 0."""
    frames = []
    for index, of_image in enumerate(windows.double().cpu().numpy()):
        row, column = divmod(index, num_columns)
        corner = np.array([column * (width + 1), row * (height + 1)])
        for window in of_image:
            ends = np.clip(window.reshape(2, 2), 0.5, [width + 0.5, height + 0.5]) - 1 + corner
            (left, top), (right, bottom) = ends
            frames.append(np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]))
    return frames


def save_png(path: Path, content: bytes) -> Path:
    """Write the picture, whole or not at all. Raises ValueError for a path that is no file's."""
    check_place(path)
    write_atomically(path, content)
    return path
