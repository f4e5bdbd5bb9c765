"""`kind: masks`: a folder of photographs and of the masks of what is in their foreground, of any size and format."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from jaxtyping import Int64
from pydantic import Field, NonNegativeInt, PositiveInt

from corpora.images.images import LevelSplits
from corpora.images.members import read_file
from corpora.images.pairs import Pair, counted, decode_splits, digest_pairs

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

Size = Annotated[int, Field(ge=1, le=1024)]
Level = Annotated[int, Field(ge=0, le=254)]


@dataclass(frozen=True, kw_only=True)
class Masks:
    """Photographs in `images/` below the folder `path`, each with the mask of the same name in `masks/`.

    Names are compared without their endings, together with the folders below these two. Photograph and mask are each
    brought to `size`×`size` pixels, whatever their own sizes; a pixel is foreground where the level of the mask's first
    channel is above `threshold`. `num_test` and `num_valid` pairs are drawn by `split_seed` out of all the pairs, in
    the order of their names, before anything is decoded; the others are trained on. Files without a partner, and pairs
    that cannot be decoded, are left out, with a note.
    """

    kind: Literal["masks"] = "masks"
    path: Path
    size: Size = 128  # height and width
    threshold: Level = 127  # of the mask's levels 0 to 255
    num_valid: PositiveInt = 27
    num_test: PositiveInt = 100
    split_seed: NonNegativeInt = 0

    binarisation: ClassVar[Literal["threshold"]] = "threshold"
    binarisation_seed: ClassVar[int] = 0  # nothing is drawn

    def fingerprint(self) -> str:
        """A digest of the encoded files, their names and the settings; the path does not enter. Raises as `read`."""
        digest = digest_pairs(_read_pairs(_find_pairs(self.path.expanduser())[0]))
        settings = [self.size, self.threshold, self.num_valid, self.num_test, self.split_seed]
        return json.dumps([self.kind, digest, *settings])

    def resolved(self) -> "Masks":
        """The same corpus from any folder: with an absolute path."""
        return replace(self, path=self.path.expanduser().absolute())

    def read(self) -> LevelSplits:
        """The splits as levels. Raises ValueError, naming file and remedy, where there is too little to split."""
        folder = self.path.expanduser()
        pairs, notes = _find_pairs(folder)
        chosen = self._split(folder, list(pairs))
        found = decode_splits(str(folder), _read_pairs(pairs), chosen, self.size, self.threshold)
        return replace(found, notes=(*notes, *found.notes))

    def _split(self, folder: Path, names: Sequence[str]) -> dict[str, list[str]]:
        """The names of each split, in their order."""
        if len(names) <= self.num_valid + self.num_test:
            raise ValueError(
                f"{folder}: holds {len(names):,} photographs with masks, of which corpus.num_valid = "
                f"{self.num_valid:,} and corpus.num_test = {self.num_test:,} leave none to train on; set them lower"
            )
        order = np.random.default_rng(self.split_seed).permutation(len(names))
        test, valid, train = np.split(order, [self.num_test, self.num_test + self.num_valid])
        return {"train": _at(names, train), "valid": _at(names, valid), "test": _at(names, test)}


def _at(names: Sequence[str], indices: Int64[np.ndarray, " M"]) -> list[str]:
    return [names[index] for index in np.sort(indices)]


def _find_pairs(folder: Path) -> tuple[dict[str, tuple[Path, Path]], tuple[str, ...]]:
    """Each name's photograph and mask, by name, and notes on what has no partner. Raises ValueError for none."""
    photographs, masks = (
        images_below(folder / part, "set corpus.path to a folder with images in images/ and masks/")
        for part in ("images", "masks")
    )
    alone = {"photograph": sorted(photographs.keys() - masks), "mask": sorted(masks.keys() - photographs)}
    left_out = [counted(names, kind) for kind, names in alone.items()]
    pairs = {name: (photographs[name], masks[name]) for name in sorted(photographs.keys() & masks)}
    if not pairs:
        raise ValueError(
            f"{folder}: no photograph has a mask of its name: in images/ there are {left_out[0]}, in masks/ "
            f"{left_out[1]}; give each pair one name, whatever the ending"
        )
    return pairs, tuple(
        f"{folder}: {said} without {partner} of the same name left out"
        for said, names, partner in zip(left_out, alone.values(), ("a mask", "a photograph"), strict=True)
        if names
    )


def is_image(path: Path) -> bool:
    """Whether the file is an image by its ending, and not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def images_below(folder: Path, remedy: str) -> dict[str, Path]:
    """The images in a folder and below it, by their path there without the ending.

    Raises ValueError, with the remedy, where there is no folder, and for two images of one name.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; {remedy}")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if not (is_image(path) and path.is_file()):
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise ValueError(f"{path}: {found[name].name} has the same name but for its ending; take one of them away")
        found[name] = path
    return found


def _read_pairs(pairs: Mapping[str, tuple[Path, Path]]) -> Iterator[Pair]:
    for name, (photograph, mask) in pairs.items():
        yield Pair(name=name, photograph=read_file(photograph), mask=read_file(mask))
