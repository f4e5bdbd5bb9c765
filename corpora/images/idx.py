"""`kind: mnist` and `kind: fashion_mnist`: a folder of idx files, the published ones or your own."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from corpora.images.binarisation import GreyBinarisation
from corpora.images.idx_file import IdxFile, read_idx
from corpora.images.images import Images, LevelSplits

_PARTS: dict[str, Literal["images", "labels"]] = {
    "train-images-idx3-ubyte": "images",
    "train-labels-idx1-ubyte": "labels",
    "t10k-images-idx3-ubyte": "images",
    "t10k-labels-idx1-ubyte": "labels",
}


@dataclass(frozen=True, kw_only=True)
class _Publication:
    name: str
    md5_of: str
    md5: Mapping[str, str]  # by the file's name
    class_names: tuple[str, ...]


_MNIST = _Publication(
    name="MNIST",
    md5_of="unpacked content",  # the .gz files were compressed anew by those who mirror them
    md5={
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    class_names=tuple("0123456789"),
)
_FASHION_MNIST = _Publication(
    name="Fashion-MNIST",
    md5_of=".gz file",  # as its authors publish them
    md5={
        "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
)


@dataclass(frozen=True, kw_only=True)
class _IdxFolder:
    """The keys of both kinds, and what is done with them."""

    publication: ClassVar[_Publication]

    kind: str
    path: Path
    binarisation: GreyBinarisation = "dynamic"
    binarisation_seed: NonNegativeInt = 0  # of the one draw of valid and test
    num_valid: PositiveInt = 400

    def fingerprint(self) -> str:
        """A digest of the images, the labels and the settings; the path does not enter. Raises ValueError as `read`."""
        return json.dumps([self.kind, self.read().digest(), self.binarisation, self.binarisation_seed])

    def resolved(self) -> "_IdxFolder":
        """The same corpus from any folder: with an absolute path."""
        return replace(self, path=self.path.expanduser().absolute())

    def read(self) -> LevelSplits:
        """The splits as levels. Raises ValueError, naming file and remedy, for what is no such folder."""
        return _read_folder(self.path.expanduser(), self.num_valid, self.publication)


@dataclass(frozen=True, kw_only=True)
class Mnist(_IdxFolder):
    """MNIST (LeCun et al. 1998), 60,000 and 10,000 digits of 28×28, or your own images in its format.

    `path` is a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte and the same two with t10k in place of
    train, plain or `.gz`; a dot before `idx` is understood too. The last `num_valid` training images are the validation
    split, 400 as in the code of Burda et al. (2016). Files that are not the published ones are used, with a note.
    """

    publication = _MNIST
    kind: Literal["mnist"] = "mnist"


@dataclass(frozen=True, kw_only=True)
class FashionMnist(_IdxFolder):
    """Fashion-MNIST (Xiao et al. 2017), ten kinds of clothes in MNIST's format and sizes. The keys are `Mnist`'s."""

    publication = _FASHION_MNIST
    kind: Literal["fashion_mnist"] = "fashion_mnist"


def _read_folder(folder: Path, num_valid: int, publication: _Publication) -> LevelSplits:
    paths = {part: _find(folder, part) for part in _PARTS}
    files = {part: read_idx(path, _PARTS[part]) for part, path in paths.items()}
    whole = _images(files["train-images-idx3-ubyte"], files["train-labels-idx1-ubyte"])
    test = _images(files["t10k-images-idx3-ubyte"], files["t10k-labels-idx1-ubyte"])
    num_train = len(whole) - num_valid
    if num_train < 1:
        raise ValueError(
            f"{paths['train-images-idx3-ubyte']}: holds {len(whole):,} images, of which corpus.num_valid = "
            f"{num_valid:,} leaves none to train on; set corpus.num_valid lower"
        )
    unknown = [part for part, file in files.items() if publication.md5[part] not in (file.md5, file.gz_md5)]
    num_classes = 1 + max(int(split.labels.max()) for split in (whole, test) if split.labels is not None)
    names = publication.class_names
    return LevelSplits(
        source=str(folder),
        train=whole.select(np.arange(num_train)),
        valid=whole.select(np.arange(num_train, len(whole))),
        test=test,
        class_names=names if num_classes == len(names) else tuple(str(i) for i in range(num_classes)),
        notes=tuple(
            f"{paths[part]}: not verified as the published file of {publication.name}, the md5 of whose "
            f"{publication.md5_of} is {publication.md5[part]}; published figures may not compare"
            for part in unknown
        ),
        is_official=not unknown,
    )


def _find(folder: Path, part: str) -> Path:
    """The file of a part: plain before `.gz`. Raises ValueError that lists what was looked for."""
    dotted = part.replace("-idx", ".idx")
    names = [part, dotted, f"{part}.gz", f"{dotted}.gz"]
    try:
        for name in names:
            if (folder / name).is_file():
                return folder / name
        state = "has none of" if folder.is_dir() else "is no folder, which would hold one of"
    except OSError as error:
        state = f"cannot be looked into ({error.strerror}) for"
    raise ValueError(f"{folder}: {state} {', '.join(names)}; set corpus.path to the folder that holds the idx files")


def _images(images: IdxFile, labels: IdxFile) -> Images:
    if len(images.array) != len(labels.array):
        raise ValueError(
            f"{labels.path}: holds {len(labels.array):,} labels for the {len(images.array):,} images of "
            f"{images.path}; use files that belong together"
        )
    return Images(levels=images.array[:, None], labels=labels.array.astype(np.int64))
