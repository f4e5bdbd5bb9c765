"""Photographs and the masks of what is in their foreground, brought to one size."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from corpora.images.encoded import MAX_BYTES, UNREADABLE, open_image
from corpora.images.images import Images

MOST_NAMED = 10  # names in one message

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the photograph


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A photograph and its mask as they are stored, and the part of them that is wanted, where it is not all."""

    name: str
    photograph: bytes
    mask: bytes
    box: Box | None = None


class Oddity(Enum):
    """What a reader of figures has to know of some of the pairs, with {} for the threshold."""

    DAMAGED = "that cannot be decoded left out"
    OTHER_SIZE = "with a mask of another size than the photograph, both brought to one"
    GRADED = "with a mask of other levels than 0 and 255, of which those above {} are foreground"
    EMPTY = "with a mask without foreground (above {})"
    FULL = "with a mask that is all foreground (above {})"


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodedPairs:
    """The pairs that could be decoded: `levels` of 0 and 255 are the masks, `context` the photographs."""

    images: Images
    odd: Mapping[Oddity, Sequence[str]]  # names of pairs; of the damaged ones why they are


def decode_pairs(pairs: Iterable[Pair], num_pairs: int, size: int, threshold: int) -> DecodedPairs:
    """At most `num_pairs` pairs as `size`×`size` pixels. What cannot be decoded is left out, with its reason.

    Raises ValueError for more than MAX_BYTES of levels, before memory is taken for them.
    """
    if (num_bytes := num_pairs * 4 * size**2) > MAX_BYTES:
        raise ValueError(
            f"corpus.size: {num_pairs:,} pairs of {size}×{size} pixels have {num_bytes:,} values, more than the "
            f"{MAX_BYTES:,} that are held in memory; set it lower or use fewer"
        )
    photographs = np.empty((num_pairs, 3, size, size), dtype=np.uint8)
    masks = np.empty((num_pairs, 1, size, size), dtype=np.uint8)
    num_decoded = 0
    odd: dict[Oddity, list[str]] = {kind: [] for kind in Oddity}
    for pair in pairs:
        try:
            photographs[num_decoded], masks[num_decoded] = _decode(pair, size, threshold, odd)
        except ValueError as error:
            odd[Oddity.DAMAGED].append(str(error))
            continue
        num_decoded += 1
    images = Images(levels=masks[:num_decoded], context=photographs[:num_decoded])
    return DecodedPairs(images=images, odd=odd)


def _decode(
    pair: Pair, size: int, threshold: int, odd: Mapping[Oddity, list[str]]
) -> tuple[UInt8[np.ndarray, "3 S S"], UInt8[np.ndarray, "1 S S"]]:
    """Both at one size; the pair's name is added to what is odd of it. Raises ValueError as `decode_rgb`."""
    photograph = decode_rgb(f"photograph {pair.name}", pair.photograph)
    mask = decode_rgb(f"mask {pair.name}", pair.mask).getchannel(0)
    across, down = mask.width / photograph.width, mask.height / photograph.height
    left, top, right, bottom = pair.box or (0.0, 0.0, float(photograph.width), float(photograph.height))
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
            return image.convert("RGBA").convert("RGB")  # a palette's own transparency would be warned of otherwise
        except UNREADABLE as error:
            raise ValueError(f"{where}: damaged or of no use ({error}); mend it or leave it out") from error


def resized(photograph: Image.Image, size: int, box: Box | None = None) -> UInt8[np.ndarray, "3 S S"]:
    """The part in the box, or all of it, as levels: bilinear, over all pixels that fall on a new one."""
    return np.asarray(photograph.resize((size, size), Image.Resampling.BILINEAR, box)).transpose(2, 0, 1)


def notes_of(source: str, splits: Mapping[str, DecodedPairs], threshold: int) -> tuple[str, ...]:
    """What was left out and what the masks were like, in lines.

    Raises ValueError where nothing of a split is left, and where no mask has foreground.
    """
    for name, split in splits.items():
        if len(split.images) == 0:
            damaged = split.odd[Oddity.DAMAGED]
            raise ValueError(
                f"{source}: none of the {len(damaged):,} pairs of the {name} split can be decoded, the first of them "
                f"because of {damaged[0]}"
            )
    odd = {kind: [name for split in splits.values() for name in split.odd[kind]] for kind in Oddity}
    num_pairs = sum(len(split.images) for split in splits.values())
    if len(odd[Oddity.EMPTY]) == num_pairs:
        raise ValueError(
            f"{source}: none of {num_pairs:,} masks has a level above corpus.threshold = {threshold}, which is what "
            "foreground is; set it lower, to 0 where foreground is stored as 1"
        )
    return tuple(
        f"{source}: {counted(names, 'pair')} {kind.value.format(threshold)}" for kind, names in odd.items() if names
    )


def counted(names: Sequence[str], noun: str) -> str:
    """A number of things and the first of their names."""
    listed = "; ".join(names[:MOST_NAMED]) + ("; …" if len(names) > MOST_NAMED else "")
    return f"{len(names):,} {noun}{'s' if len(names) != 1 else ''} ({listed})"
