"""Photographs and the masks of what is in their foreground, brought to one size."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

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


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodedPairs:
    """The pairs that could be decoded: `levels` of 0 and 255 are the masks, `context` the photographs."""

    images: Images
    names: tuple[str, ...]
    damaged: tuple[str, ...] = ()  # why each of the others could not
    resized: tuple[str, ...] = ()  # names of those whose mask has another size than its photograph
    graded: tuple[str, ...] = ()  # whose mask has other levels than 0 and 255
    empty: tuple[str, ...] = ()  # without foreground
    full: tuple[str, ...] = ()  # without background


@dataclass
class _Oddities:
    """Names, as they are found."""

    damaged: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    graded: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    full: list[str] = field(default_factory=list)


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
    names: list[str] = []
    odd = _Oddities()
    for pair in pairs:
        row = len(names)
        try:
            photographs[row], masks[row] = _decode(pair, size, threshold, odd)
        except ValueError as error:
            odd.damaged.append(str(error))
            continue
        names.append(pair.name)
    images = Images(levels=masks[: len(names)], context=photographs[: len(names)])
    return DecodedPairs(images=images, names=tuple(names), **{name: tuple(found) for name, found in vars(odd).items()})


def _decode(
    pair: Pair, size: int, threshold: int, odd: _Oddities
) -> tuple[UInt8[np.ndarray, "3 S S"], UInt8[np.ndarray, "1 S S"]]:
    photograph = decode_rgb(f"photograph {pair.name}", pair.photograph)
    mask = decode_rgb(f"mask {pair.name}", pair.mask).getchannel(0)
    across, down = mask.width / photograph.width, mask.height / photograph.height
    box = pair.box or (0.0, 0.0, float(photograph.width), float(photograph.height))
    scaled = box[0] * across, box[1] * down, box[2] * across, box[3] * down
    levels = np.asarray(mask.resize((size, size), Image.Resampling.NEAREST, scaled))
    is_foreground = levels > threshold
    for names, is_so in (
        (odd.resized, mask.size != photograph.size),
        (odd.graded, bool(set(np.unique(levels)) - {0, 255})),
        (odd.empty, not is_foreground.any()),
        (odd.full, bool(is_foreground.all())),
    ):
        names += [pair.name] * is_so
    return resized(photograph, size, box), is_foreground[None] * np.uint8(255)


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


def notes_of(source: str, splits: Sequence[DecodedPairs], threshold: int) -> tuple[str, ...]:
    """What was left out, and what the masks were like, in lines. Raises ValueError where no mask has foreground."""
    found = {name: [each for split in splits for each in getattr(split, name)] for name in vars(_Oddities())}
    num_pairs = sum(len(split.names) for split in splits)
    if len(found["empty"]) == num_pairs:
        raise ValueError(
            f"{source}: none of {num_pairs:,} masks has a level above corpus.threshold = {threshold}, which is what "
            "foreground is; set it lower (0 where foreground is stored as 1)"
        )
    said = {
        "damaged": "cannot be decoded, left out",
        "resized": "with a mask of another size than the photograph, both brought to one size",
        "graded": f"with a mask of other levels than 0 and 255, of which those above {threshold} are foreground",
        "empty": f"with a mask without foreground (above {threshold})",
        "full": f"with a mask that is all foreground (above {threshold})",
    }
    return tuple(f"{source}: {counted(found[name], 'pair')} {what}" for name, what in said.items() if found[name])


def counted(names: Sequence[str], noun: str) -> str:
    """A number of things and the first of their names."""
    listed = ", ".join(names[:MOST_NAMED]) + (", …" if len(names) > MOST_NAMED else "")
    return f"{len(names):,} {noun}{'s' if len(names) != 1 else ''} ({listed})"
