"""Photographs and the masks of what is in their foreground, brought to one size."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from corpora.images.encoded import MAX_BYTES, UNREADABLE, open_image
from corpora.images.images import Images, LevelSplits

MOST_NAMED = 10  # names in one message

Crop = Literal["none", "box", "square"]
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the photograph


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A photograph and its mask as they are stored, and the part of both that is wanted.

    That is all of it, what is in the box, or the largest square in the middle.
    """

    name: str
    photograph: bytes
    mask: bytes
    crop: Crop = "none"
    box: Box | None = None  # of crop box


class Oddity(Enum):
    """What a reader of figures has to know of some of the pairs, with {} for the threshold."""

    MISSING = "that are listed, but have no photograph or no mask, left out"
    DAMAGED = "that cannot be decoded left out"
    OTHER_SIZE = "with a mask of another size than the photograph, both brought to one"
    GRADED = "with a mask of other levels than 0 and 255, of which those above {} are foreground"
    EMPTY = "with a mask without foreground (above {})"
    FULL = "with a mask that is all foreground (above {})"


Odd = dict[Oddity, list[str]]  # names of pairs; of the damaged ones why they are


def decode_splits(
    source: str, pairs: Iterable[Pair], chosen: Mapping[str, Sequence[str]], size: int, threshold: int
) -> LevelSplits:
    """The pairs, which come in any order, as splits of `size`×`size` pixels, each in the order of its chosen names.

    `levels` of 0 and 255 are the masks, `context` the photographs. What cannot be decoded is left out, with a note, and
    so is what is chosen but does not come. Raises ValueError where nothing of a split is left, where no mask has
    foreground, and for more than MAX_BYTES of levels, before memory is taken for them.
    """
    num_pairs = sum(map(len, chosen.values()))
    if (num_bytes := num_pairs * 4 * size**2) > MAX_BYTES:
        raise ValueError(
            f"corpus.size: {num_pairs:,} pairs of {size}×{size} pixels have {num_bytes:,} values, more than the "
            f"{MAX_BYTES:,} that are held in memory; set it lower or use fewer"
        )
    empty = {split: _empty(len(names), size) for split, names in chosen.items()}
    rows = {name: (split, row) for split, names in chosen.items() for row, name in enumerate(names)}
    decoded: dict[str, list[int]] = {split: [] for split in chosen}
    odd: Odd = {kind: [] for kind in Oddity}
    for pair in pairs:
        split, row = rows.pop(pair.name)
        masks, photographs = empty[split]
        try:
            photographs[row], masks[row] = _decode(pair, size, threshold, odd)
        except ValueError as error:
            odd[Oddity.DAMAGED].append(str(error))
        else:
            decoded[split].append(row)
    odd[Oddity.MISSING].extend(rows)
    _check_any(source, decoded, odd, threshold)
    images = {
        split: Images(levels=masks, context=photographs).select(np.sort(decoded[split]))
        for split, (masks, photographs) in empty.items()
    }
    notes = (f"{counted(names, 'pair')} {kind.value.format(threshold)}" for kind, names in odd.items() if names)
    return LevelSplits(
        source=source,
        train=images["train"],
        valid=images["valid"],
        test=images["test"],
        notes=tuple(f"{source}: {note}" for note in notes),
    )


def _empty(num_pairs: int, size: int) -> tuple[UInt8[np.ndarray, "N 1 S S"], UInt8[np.ndarray, "N 3 S S"]]:
    return np.empty((num_pairs, 1, size, size), np.uint8), np.empty((num_pairs, 3, size, size), np.uint8)


def _check_any(source: str, decoded: Mapping[str, Sequence[int]], odd: Odd, threshold: int) -> None:
    for split, rows in decoded.items():
        if not rows:
            reason = [*odd[Oddity.DAMAGED], *(f"{name}: not there" for name in odd[Oddity.MISSING])][0]
            raise ValueError(
                f"{source}: no pair of the {split} split can be decoded; the first that could not: {reason}"
            )
    if len(odd[Oddity.EMPTY]) == (num_pairs := sum(map(len, decoded.values()))):
        raise ValueError(
            f"{source}: none of {num_pairs:,} masks has a level above corpus.threshold = {threshold}, which is what "
            "foreground is; set it lower, to 0 where foreground is stored as 1"
        )


def digest_pairs(pairs: Iterable[Pair]) -> str:
    """A digest of pairs as they are stored, in whatever order they come."""
    found = {}
    for pair in pairs:
        parts = (hashlib.sha256(part).hexdigest() for part in (pair.photograph, pair.mask))
        found[pair.name] = json.dumps([pair.name, *parts, pair.crop, pair.box])
    return hashlib.sha256("".join(found[name] for name in sorted(found)).encode()).hexdigest()


def _decode(
    pair: Pair, size: int, threshold: int, odd: Odd
) -> tuple[UInt8[np.ndarray, "3 S S"], UInt8[np.ndarray, "1 S S"]]:
    """Both at one size; the pair's name is added to what is odd of it. Raises ValueError as `decode_rgb`."""
    photograph = decode_rgb(f"photograph {pair.name}", pair.photograph)
    mask = decode_rgb(f"mask {pair.name}", pair.mask).getchannel(0)
    across, down = mask.width / photograph.width, mask.height / photograph.height
    left, top, right, bottom = _within(pair, photograph)
    scaled = left * across, top * down, right * across, bottom * down
    levels = np.asarray(mask.resize((size, size), Image.Resampling.NEAREST, scaled))
    is_foreground = levels > threshold
    for kind, is_so in (
        (Oddity.OTHER_SIZE, mask.size != photograph.size),
        (Oddity.GRADED, not np.isin(levels, (0, 255)).all()),
        (Oddity.EMPTY, not is_foreground.any()),
        (Oddity.FULL, is_foreground.all()),
    ):
        odd[kind].extend([pair.name] * bool(is_so))
    return resized(photograph, size, (left, top, right, bottom)), is_foreground[None] * np.uint8(255)


def _within(pair: Pair, photograph: Image.Image) -> Box:
    """The part of a photograph that is wanted. Raises ValueError for a box beside it."""
    width, height = float(photograph.width), float(photograph.height)
    if pair.crop == "square":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return left, top, left + side, top + side
    if pair.crop == "none":
        return 0.0, 0.0, width, height
    assert pair.box is not None
    box = pair.box
    left, top, right, bottom = max(0.0, box[0]), max(0.0, box[1]), min(width, box[2]), min(height, box[3])
    if not (right - left >= 1 and bottom - top >= 1):
        raise ValueError(f"photograph {pair.name}: box {box} holds no pixel of its {width:.0f}×{height:.0f}")
    return left, top, right, bottom


def decode_rgb(where: str, data: bytes) -> Image.Image:
    """An image in colour, greys expanded, transparency dropped, 16 bits cut to 8, the first of several frames.

    Raises ValueError, naming the place, for what cannot be read and for pixels of 32 bits, whose range is unknown.
    """
    with open_image(where, data) as image:
        try:
            if image.mode.startswith("I;16"):
                return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
            if image.mode in ("I", "F"):
                raise ValueError(f"pixels of 32 bits, in mode {image.mode}")
            plain = (
                image.convert("RGBA") if image.mode in ("P", "PA") else image
            )  # else their transparency is warned of
            return plain.convert("RGB")
        except UNREADABLE as error:
            raise ValueError(f"{where}: damaged or of no use ({error}); mend it or leave it out") from error


def resized(photograph: Image.Image, size: int, box: Box | None = None) -> UInt8[np.ndarray, "3 S S"]:
    """The part in the box, or all of it, as levels: bilinear, over all pixels that fall on a new one."""
    return np.asarray(photograph.resize((size, size), Image.Resampling.BILINEAR, box)).transpose(2, 0, 1)


def counted(names: Sequence[str], noun: str) -> str:
    """A number of things and the first of their names."""
    listed = "; ".join(names[:MOST_NAMED]) + ("; …" if len(names) > MOST_NAMED else "")
    return f"{len(names):,} {noun}{'s' if len(names) != 1 else ''} ({listed})"
