"""`kind: cub`: the Caltech-UCSD Birds with their segmentations, of 2011 or 2010, in folders or archives."""

import io
import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import NonNegativeInt, PositiveInt

from corpora.images.apart import apart
from corpora.images.cub_lists import Bird, read_birds_2010, read_birds_2011, split_birds
from corpora.images.images import LevelSplits
from corpora.images.masks import Level, Size
from corpora.images.members import read_file, read_members
from corpora.images.pairs import Box, Crop, Pair, decode_splits, digest_pairs

NO_ANNOTATION: tuple[bytes, Box | None] = b"", None
MAX_MAT_BYTES = 2**24  # of one annotation, which may be compressed
_NO_MAT = (  # what reading one may raise; scipy's readers check little
    *(
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        NameError,
        OSError,
        ArithmeticError,
        RuntimeError,
        MemoryError,
    ),
    struct.error,
)


@dataclass(frozen=True, kw_only=True)
class Cub:
    """Photographs of birds, each with the mask of its bird.

    Of edition 2011 (Wah et al. 2011) `path` is CUB_200_2011, the folder that holds it, or CUB_200_2011.tgz, and
    `segmentations` the folder or archive of the masks, which are published by themselves; if null they are looked for
    inside of `path` and beside it. Of edition 2010 (Welinder et al. 2010) `path` is a folder, or an archive, of images,
    lists and annotations-mat. `crop` is to the bird's `box`, to the `square` in the middle, or `none`; what is left is
    brought to `size`×`size` pixels. A pixel is foreground where its mask's level is above `threshold`: of 0, 51 … 255
    for the votes of five annotators.

    The test split is the published one and `num_valid` of the training images, drawn by `split_seed`, are the
    validation split; or `split_file` gives each image by its number 0 for train, 1 for valid or 2 for test, as ReDO's
    train_val_test_split.txt does (Chen et al. 2019).
    """

    kind: Literal["cub"] = "cub"
    path: Path
    segmentations: Path | None = None
    edition: Literal[2010, 2011] = 2011
    crop: Crop = "box"
    size: Size = 128  # height and width
    threshold: Level = 127  # of the mask's levels 0 to 255
    split_file: Path | None = None
    num_valid: PositiveInt = 600  # without a split_file
    split_seed: NonNegativeInt = 0

    binarisation: ClassVar[Literal["threshold"]] = "threshold"
    binarisation_seed: ClassVar[int] = 0  # nothing is drawn

    def fingerprint(self) -> str:
        """A digest of photographs, masks, splits and settings; packed or not is the same. Raises as `read`."""
        birds = self._birds
        chosen = self._split(birds)
        return json.dumps([self.kind, digest_pairs(self._pairs(birds)), chosen, self.size, self.threshold])

    def resolved(self) -> "Cub":
        """The same corpus from any folder: with absolute paths."""
        return replace(
            self,
            path=self.path.expanduser().absolute(),
            segmentations=None if self.segmentations is None else self.segmentations.expanduser().absolute(),
            split_file=None if self.split_file is None else self.split_file.expanduser().absolute(),
        )

    def read(self) -> LevelSplits:
        """The splits as levels. Raises ValueError, naming file and remedy, for what is no such data set."""
        birds = self._birds
        return decode_splits(
            str(self.path.expanduser()), self._pairs(birds), self._split(birds), self.size, self.threshold
        )

    def __post_init__(self) -> None:
        if self.edition == 2010 and (self.split_file or self.segmentations):
            raise ValueError("split_file and segmentations are of edition 2011: leave them out, or set edition to 2011")

    @property
    def _birds(self) -> list[Bird]:
        path = self.path.expanduser()
        return read_birds_2011(path) if self.edition == 2011 else read_birds_2010(path)

    def _split(self, birds: Sequence[Bird]) -> dict[str, list[str]]:
        split_file = None
        if self.split_file is not None:
            where = self.split_file.expanduser()
            split_file = str(where), read_file(where).decode("utf-8", "replace")
        return split_birds(str(self.path.expanduser()), birds, self.num_valid, self.split_seed, split_file)

    def _pairs(self, birds: Sequence[Bird]) -> Iterator[Pair]:
        """The birds of which photograph and mask are there, in the order in which the photographs are stored."""
        path = self.path.expanduser()
        masks = _masks_2011(path, self.segmentations, birds) if self.edition == 2011 else _masks_2010(path, birds)
        by_place = {bird.photograph: bird for bird in birds if bird.name in masks}
        for place, photograph in read_members(path, by_place):
            bird = by_place[place]
            mask, box = masks[bird.name]
            yield Pair(name=bird.name, photograph=photograph, mask=mask, crop=self.crop, box=box or bird.box)


def _masks_2011(path: Path, segmentations: Path | None, birds: Sequence[Bird]) -> dict[str, tuple[bytes, None]]:
    """Masks by name, from the place given, else from the first of the usual places that has any."""
    beside = [path.parent / "segmentations", path.parent / "segmentations.tgz", path / "segmentations.tgz"]
    places = [path, *(place for place in beside if place.exists())]
    if segmentations is not None:
        places = [segmentations.expanduser()]
    for place in places:
        names = {
            f"{folder}{bird.name}.png": bird.name
            for bird in birds
            for folder in ("segmentations/", f"{bird.folder}segmentations/", "")
        }
        if found := {names[member]: (data, None) for member, data in read_members(place, names)}:
            return found
    raise ValueError(
        f"{', '.join(map(str, places))}: no masks, segmentations/CLASS/NAME.png, of the photographs listed; they are "
        "an archive of their own, segmentations.tgz: set corpus.segmentations to it"
    )


def _masks_2010(path: Path, birds: Sequence[Bird]) -> dict[str, tuple[bytes, Box | None]]:
    """Masks by name, as PNG, with their boxes; those that cannot be read as no image, for the decoder to name."""
    names = {f"{bird.folder}annotations-mat/{bird.name}.mat": bird.name for bird in birds}
    annotations = apart(_annotation, read_members(path, names), otherwise=NO_ANNOTATION)  # scipy's reader may crash
    found = {names[member]: annotation for member, annotation in annotations}
    if not found:
        raise ValueError(
            f"{path}: no annotations-mat/CLASS/NAME.mat of the photographs listed; unpack annotations.tgz there"
        )
    return found


def _annotation(data: bytes) -> tuple[bytes, Box | None]:
    """The mask and the box, whose MATLAB pixels count from 1 with both ends in it; nothing for what is damaged."""
    from scipy.io import loadmat  # takes a while, which other corpora need not pay
    from scipy.io.matlab import MatReadError

    if len(data) > MAX_MAT_BYTES:
        return NO_ANNOTATION
    try:
        content = loadmat(io.BytesIO(data), variable_names=["bbox", "seg"], squeeze_me=True)
        seg, bbox = np.asarray(content["seg"]), content["bbox"]
        left, top, right, bottom = (float(bbox[side]) for side in ("left", "top", "right", "bottom"))
        levels = (seg > 0).astype(np.uint8) * np.uint8(255)
        buffer = io.BytesIO()
        Image.fromarray(levels).save(buffer, "PNG")
    except (*_NO_MAT, MatReadError, zlib.error):
        return NO_ANNOTATION
    return buffer.getvalue(), (left - 1, top - 1, right, bottom)
