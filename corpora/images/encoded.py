"""Images encoded as PNG, JPEG and the like, from files that may be damaged or hostile."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import UInt8
from PIL import Image

MAX_BYTES = 2**33  # of one split's levels, which are held in memory

_NUM_CHANNELS = {"1": 1, "L": 1, "RGB": 3}  # by Pillow's mode; the others need a decision that is not ours
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # some others make Pillow start programs
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)  # what decoding may raise


def decode_images(encoded: Iterable[tuple[str, bytes]], num_images: int) -> UInt8[np.ndarray, "N C H W"]:
    """The levels of `num_images` images, each given with its place for messages.

    Raises ValueError, naming the place, for an image that cannot be read, one that is neither grey nor RGB, one whose
    size or mode is not the first one's, and for more than MAX_BYTES of levels, before memory is taken for them.
    """
    first = ""
    wanted: tuple[str, tuple[int, int]] = ("", (0, 0))
    levels = np.empty((0, 0, 0, 0), dtype=np.uint8)
    for row, (where, data) in enumerate(encoded):
        with open_image(where, data) as image:
            if row == 0:
                first, wanted = where, (image.mode, image.size)
                levels = _room(where, num_images, image)
            elif (image.mode, image.size) != wanted:
                raise ValueError(
                    f"{where}: {_kind(image.mode, image.size)}, where {first} is {_kind(*wanted)}; bring all images to "
                    "one size and mode"
                )
            levels[row] = _pixels(where, image)
    return levels


@contextmanager
def open_image(where: str, data: bytes) -> Iterator[Image.Image]:
    """An image for the block, in which Pillow does not warn of tags that nobody reads. The header alone has been read.

    Raises ValueError, naming the place, for no image and for one of very many pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with _opened(where, data) as image:
            yield image


def _opened(where: str, data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{where}: too large ({error}); make the image smaller or leave it out") from error
    except UNREADABLE as error:
        raise ValueError(f"{where}: no image that can be read; mend it or leave it out") from error


def _room(where: str, num_images: int, image: Image.Image) -> UInt8[np.ndarray, "N C H W"]:
    if image.mode not in _NUM_CHANNELS:
        raise ValueError(f"{where}: {_kind(image.mode, image.size)}; convert the images to mode L (grey) or RGB")
    shape = num_images, _NUM_CHANNELS[image.mode], image.height, image.width
    if (size := int(np.prod(shape, dtype=object))) > MAX_BYTES:
        raise ValueError(
            f"{where}: {_kind(image.mode, image.size)}; {num_images:,} of them have {size:,} values, more than the "
            f"{MAX_BYTES:,} that are held in memory; make them smaller or use fewer"
        )
    return np.empty(shape, dtype=np.uint8)


def _pixels(where: str, image: Image.Image) -> UInt8[np.ndarray, "C H W"]:
    try:
        pixels = np.asarray(image.convert("L") if image.mode == "1" else image)
    except UNREADABLE as error:
        raise ValueError(f"{where}: damaged image ({error}); mend it or leave it out") from error
    return pixels.reshape(image.height, image.width, -1).transpose(2, 0, 1)


def _kind(mode: str, size: tuple[int, int]) -> str:
    return f"an image of {size[0]}×{size[1]} pixels (width × height) in mode {mode}"
