"""The lists of the Caltech-UCSD Birds: which photographs there are, their boxes, and who is trained on what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from corpora.images.members import read_members
from corpora.images.pairs import Box, counted

_TEXTS_2011 = ("images.txt", "train_test_split.txt", "bounding_boxes.txt")
_TEXTS_2010 = ("lists/train.txt", "lists/test.txt")
_SPLITS = {"0": "train", "1": "valid", "2": "test"}  # as split files number them


@dataclass(frozen=True, kw_only=True)
class Bird:
    """A photograph that is listed."""

    number: int  # the published one; 0 where there is none
    name: str  # class and file, without the ending
    folder: str  # of the data set in its archive: empty, or with a slash at its end
    file: str  # class and file
    box: Box | None  # where it is listed
    is_test: bool  # in the published split

    @property
    def photograph(self) -> str:
        """Its place in the archive."""
        return f"{self.folder}images/{self.file}"


def read_birds_2011(path: Path) -> list[Bird]:
    """What images.txt lists, whatever else lies in the folder. Raises ValueError, naming file and line."""
    folder, texts = _texts(path, ("CUB_200_2011/", ""), _TEXTS_2011)
    tables = {
        text: numbered(f"{path}: {folder}{text}", texts[text], num_values)
        for text, num_values in zip(_TEXTS_2011, (1, 1, 4), strict=True)
    }
    files, splits, boxes = tables.values()
    for text, table in tables.items():
        _check_same(f"{path}: {folder}{text}", table, f"{folder}images.txt", files)
    return [
        Bird(
            number=number,
            name=_name(file),
            folder=folder,
            file=file,
            box=_box(f"{path}: {folder}bounding_boxes.txt: image {number}", boxes[number]),
            is_test=splits[number] == ["0"],
        )
        for number, (file,) in files.items()
    ]


def read_birds_2010(path: Path) -> list[Bird]:
    """What lists/train.txt and lists/test.txt name. Raises ValueError, naming the file."""
    folder, texts = _texts(path, ("CUB_200_2010/", ""), _TEXTS_2010)
    files = {text: [line.strip() for line in texts[text].splitlines() if line.strip()] for text in _TEXTS_2010}
    if twice := sorted(set(files[_TEXTS_2010[0]]) & set(files[_TEXTS_2010[1]])):
        raise ValueError(f"{path}: {folder}lists: {counted(twice, 'photograph')} to be trained on and to test with")
    return [
        Bird(number=0, name=_name(file), folder=folder, file=file, box=None, is_test=text == "lists/test.txt")
        for text, listed in files.items()
        for file in dict.fromkeys(listed)
    ]


def split_birds(
    source: str, birds: Sequence[Bird], num_valid: int, seed: int, split_file: tuple[str, str] | None
) -> dict[str, list[str]]:
    """The names of each split: the published one, or that of a split file, given with its place for messages."""
    if split_file is not None:
        where, text = split_file
        numbers = numbered(where, text, 1)
        names = {bird.number: bird.name for bird in birds}
        _check_same(where, numbers, f"the list of {source}", names)
        if others := sorted({value for (value,) in numbers.values()} - _SPLITS.keys()):
            raise ValueError(f"{where}: {counted(others, 'split')}, where 0 is train, 1 valid and 2 test")
        splits = {number: _SPLITS[value] for number, (value,) in numbers.items()}
        return {split: [names[number] for number in names if splits[number] == split] for split in _SPLITS.values()}
    test = [bird.name for bird in birds if bird.is_test]
    rest = [bird.name for bird in birds if not bird.is_test]
    if len(rest) <= num_valid:
        raise ValueError(
            f"{source}: lists {len(rest):,} photographs to train on, of which corpus.num_valid = {num_valid:,} leaves "
            "none; set it lower"
        )
    held = frozenset(np.random.default_rng(seed).permutation(len(rest))[:num_valid].tolist())
    valid = [name for index, name in enumerate(rest) if index in held]
    return {"train": [name for index, name in enumerate(rest) if index not in held], "valid": valid, "test": test}


def numbered(where: str, text: str, num_values: int) -> dict[int, list[str]]:
    """Lines of a number and some values, by number. Raises ValueError, naming the line, for any other."""
    found: dict[int, list[str]] = {}
    for row, line in enumerate(text.splitlines(), start=1):
        number, *values = line.split() or [""]
        if not line.strip():
            continue
        if not (number.isascii() and number.isdecimal() and len(number) < 10) or len(values) != num_values:
            raise ValueError(f"{where}: line {row}: {line!r:.80} is not the number of an image and {num_values} more")
        if int(number) in found:
            raise ValueError(f"{where}: line {row}: image {number} for the second time")
        found[int(number)] = values
    return found


def _texts(path: Path, folders: Sequence[str], names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The data set's folder within the path, and its lists by name."""
    contents = dict(read_members(path, [folder + name for folder in folders for name in names]))
    for folder in folders:
        if folder + names[0] in contents:
            missing = [name for name in names if folder + name not in contents]
            if missing:
                raise ValueError(f"{path}: there is no {folder}{missing[0]}; use the whole data set")
            return folder, {name: contents[folder + name].decode("utf-8", "replace") for name in names}
    raise ValueError(
        f"{path}: has no {names[0]}, nor has {folders[0]} in it; set corpus.path to the data set, and corpus.edition "
        "to 2010 or 2011"
    )


def _check_same(where: str, found: Mapping[int, object], listed_by: str, listed: Mapping[int, object]) -> None:
    for what, numbers in (
        (f"that {listed_by} has not", found.keys() - listed.keys()),
        (f"missing that {listed_by} has", listed.keys() - found.keys()),
    ):
        if numbers:
            raise ValueError(f"{where}: {counted([str(each) for each in sorted(numbers)], 'number')} {what}; mend one")


def _name(file: str) -> str:
    return file.rpartition(".")[0] or file


def _box(where: str, values: Sequence[str]) -> Box:
    """Left, top, right, bottom out of left, top, width, height."""
    try:
        left, top, width, height = map(float, values)
    except ValueError as error:
        raise ValueError(f"{where}: {' '.join(values)!r:.80} are not four numbers") from error
    return left, top, left + width, top + height
