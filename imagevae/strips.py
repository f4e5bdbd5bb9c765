"""Images that were drawn in steps, as a strip and as an animated PNG."""

import io
import math

from PIL import Image

from imagevae.drawing import Drawing
from imagevae.form import ImageForm
from imagevae.pictures import grid_png

FRAME_MS = 250
LAST_FRAME_MS = 2_000


def strip_png(drawing: Drawing, form: ImageForm) -> bytes:
    """A row for each image, a column for each step t = 1 … T."""
    shown, heads = drawing.thinned()
    images = form.images(shown.pixels.transpose(0, 1).flatten(0, 1))
    windows = shown.windows.transpose(0, 1).flatten(0, 1)
    return grid_png(images, len(heads), column_labels=heads, windows=windows)


def animated_png(drawing: Drawing, form: ImageForm) -> bytes:
    """A frame for each step, for ever again; a program that knows no animation shows the first."""
    shown, heads = drawing.thinned()
    num_columns = math.ceil(math.sqrt(shown.pixels.shape[1]))
    frames = [
        Image.open(io.BytesIO(grid_png(form.images(pixels), num_columns, column_labels=[f"t = {t}"], windows=windows)))
        for pixels, windows, t in zip(shown.pixels, shown.windows, heads, strict=True)
    ]
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return buffer.getvalue()
