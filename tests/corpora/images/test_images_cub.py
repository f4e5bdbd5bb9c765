"""The birds: a synthetic tree with every oddity of the published one, in folders and archives, and the real pair."""

import io
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from scipy.io import loadmat, savemat

from corpora.images import Cub, ImageCorpus, load_images

NUM_BIRDS = 8
LEVELS = np.array([0, 51, 102, 153, 204, 255], dtype=np.uint8)
WIDTH, HEIGHT = 24, 18


def name_of(number: int) -> str:
    return f"{1 + number // 5:03}.Bird_{number // 5}/Bird_{number:04}"


def photograph(number: int) -> Image.Image:
    levels = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    image = Image.fromarray(levels)
    return image.convert("L") if number == 3 else image  # a grey one


def mask(number: int) -> Image.Image:
    """Six levels in columns, right of a margin that the box leaves out; of bird 4 with a second channel."""
    levels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    levels[3:15, 6:18] = np.repeat(LEVELS, 2)
    first = Image.fromarray(levels)
    return Image.merge("LA", (first, Image.new("L", first.size, 255))) if number == 4 else first


def write(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def tree(folder: Path) -> Path:
    """CUB_200_2011 and the segmentations beside it."""
    root = folder / "CUB_200_2011"
    lists: dict[str, list[str]] = {"images": [], "train_test_split": [], "bounding_boxes": []}
    for number in range(1, NUM_BIRDS + 1):
        name = name_of(number)
        write(root / "images" / f"{name}.jpg", photograph(number))
        write(folder / "segmentations" / f"{name}.png", mask(number))
        lists["images"].append(f"{number} {name}.jpg")
        lists["train_test_split"].append(f"{number} {int(number <= 5)}")
        lists["bounding_boxes"].append(f"{number} 6.0 3.0 12.0 12.0")
    write(root / "images" / f"{name_of(1)}_rgb.jpg", photograph(9))  # stray
    for text, lines in lists.items():
        (root / f"{text}.txt").write_text("\n".join(lines) + "\n")
    (folder / "attributes.txt").write_text("1 something\n")
    return folder


def pack(archive: Path, folder: Path, *parts: str) -> Path:
    with tarfile.open(archive, "w:gz") as file:
        for part in parts:
            file.add(folder / part, part)
    return archive


def cub(path: Path, **keys: Any) -> Cub:
    return Cub(path=path, **({"size": 6, "num_valid": 2} | keys))


def test_the_tree_yields_what_is_listed(tmp_path: Path) -> None:
    splits = load_images(cub(tree(tmp_path)))
    assert [len(split) for split in splits.by_name().values()] == [3, 2, 3]
    assert (splits.shape, splits.context_channels) == ((1, 6, 6), 3)
    for split in splits.by_name().values():
        assert (split.levels == np.array([0, 0, 0, 255, 255, 255])).all()  # votes above half, of the box alone
    (note,) = splits.notes
    assert note.startswith(f"{tmp_path}: 8 pairs (")
    assert note.endswith("with a mask of other levels than 0 and 255, of which those above 127 are foreground")


def test_grey_photographs_have_three_channels(tmp_path: Path) -> None:
    every = {"split_file": tmp_path / "split.txt"}
    every["split_file"].write_text("\n".join(f"{number} {min(2, abs(number - 3))}" for number in range(1, 9)))
    splits = cub(tree(tmp_path), **every).read()
    assert len(splits.train) == 1  # bird 3, the grey one
    assert splits.train.context is not None
    assert (splits.train.context[0, :1] == splits.train.context[0]).all()
    assert splits.valid.context is not None
    assert not (splits.valid.context[0, :1] == splits.valid.context[0]).all()


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_folders_and_archives_are_the_same(tmp_path: Path, inside: bool, packed: bool) -> None:
    folder = tree(tmp_path / "plain")
    expected = cub(folder).fingerprint()
    assert cub(folder / "CUB_200_2011").fingerprint() == expected
    if inside:
        shutil.move(folder / "segmentations", folder / "CUB_200_2011" / "segmentations")
    if not packed:
        assert cub(folder).fingerprint() == expected
        return
    archive = pack(tmp_path / "CUB_200_2011.tgz", folder, "attributes.txt", "CUB_200_2011")
    if not inside:
        pack(tmp_path / "segmentations.tgz", folder, "segmentations")
    assert cub(archive).fingerprint() == expected
    np.testing.assert_array_equal(cub(archive).read().test.context, cub(folder).read().test.context)
    other = tmp_path / "other.tgz"
    if not inside:
        (tmp_path / "segmentations.tgz").rename(other)
        assert cub(archive, segmentations=other).fingerprint() == expected
        with pytest.raises(ValueError, match=r"no masks, .*: set corpus\.segmentations to it"):
            cub(archive).read()


@pytest.mark.parametrize("edition", [2010, 2011])
def test_crops(tmp_path: Path, edition: int) -> None:
    path = tree(tmp_path) if edition == 2011 else tree_2010(tmp_path)
    share = {crop: (cub(path, crop=crop, size=72, edition=edition).read().test.levels > 0).mean() for crop in CROPS}
    foreground = 6 * 12  # pixels
    assert share["box"] == 0.5
    assert share["none"] == pytest.approx(foreground / (WIDTH * HEIGHT))
    assert share["square"] == pytest.approx(foreground / HEIGHT**2)


CROPS = ("box", "none", "square")


def tree_2010(folder: Path) -> Path:
    """The older edition: annotations with a box that counts from 1, and a mask of 0 and 1."""
    (folder / "lists").mkdir(parents=True)
    for text, numbers in (("train", range(1, 6)), ("test", range(6, 9))):
        (folder / "lists" / f"{text}.txt").write_text("".join(f"{name_of(number)}.jpg\n" for number in numbers))
    for number in range(1, NUM_BIRDS + 1):
        write(folder / "images" / f"{name_of(number)}.jpg", photograph(number))
        path = folder / "annotations-mat" / f"{name_of(number)}.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        seg = (np.asarray(mask(number).getchannel(0)) > 127).astype(np.uint8)
        bbox = {"left": 7.0, "top": 4.0, "right": 18.0, "bottom": 15.0}
        savemat(path, {"bbox": bbox, "seg": seg, "wikiurl": "x"}, do_compression=number % 2 == 0)
    return folder


def test_the_older_edition(tmp_path: Path) -> None:
    folder = tree_2010(tmp_path / "plain")
    splits = load_images(cub(folder, edition=2010))
    assert [len(split) for split in splits.by_name().values()] == [3, 2, 3]
    assert all((split.levels == np.array([0, 0, 0, 255, 255, 255])).all() for split in splits.by_name().values())
    assert splits.notes == ()
    archive = pack(tmp_path / "all.tgz", folder, "images", "lists", "annotations-mat")
    assert cub(archive, edition=2010).fingerprint() == cub(folder, edition=2010).fingerprint()
    victims = [folder / "annotations-mat" / f"{name_of(number)}.mat" for number in (1, 2, 3)]
    victims[0].write_bytes(b"no mat")
    victims[1].write_bytes(victims[1].read_bytes()[:200])
    savemat(victims[2], {"seg": np.zeros((3, 3))})
    notes = cub(folder, edition=2010).read().notes
    assert len(notes) == 1
    assert all(f"mask {name_of(number)}: no image that can be read" in notes[0] for number in (1, 2, 3))
    shutil.rmtree(folder / "annotations-mat")
    with pytest.raises(ValueError, match=r"no annotations-mat/CLASS/NAME\.mat .*; unpack annotations\.tgz there"):
        cub(folder, edition=2010).read()


@pytest.mark.parametrize(("place", "ends_the_reader"), [(144, False), (272, True)])
def test_a_bird_whose_annotation_scipy_cannot_survive_is_left_out(
    place: int, ends_the_reader: bool, tmp_path: Path
) -> None:
    folder = tree_2010(tmp_path / "plain")
    victim = folder / "annotations-mat" / f"{name_of(1)}.mat"
    content = bytearray(victim.read_bytes())
    content[place] = 255
    victim.write_bytes(content)
    if not ends_the_reader:
        with pytest.raises(UnboundLocalError):
            loadmat(victim)
    (note,) = cub(folder, edition=2010).read().notes
    assert f"mask {name_of(1)}: no image that can be read" in note
    assert f"mask {name_of(2)}" not in note


def test_the_split_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "train_val_test_split.txt"
    path.write_text("".join(f"{number} {number % 3}\n" for number in range(1, 9)))
    splits = cub(tree(tmp_path), split_file=path).read()
    assert [len(split) for split in (splits.train, splits.valid, splits.test)] == [2, 3, 3]
    for text, message in (
        (path.read_text() + "99 0\n11 1\n", r"split\.txt: 2 numbers \(11; 99\) that the list of .* has not; mend"),
        ("1 0\n2 1\n3 2\n", r"split\.txt: 5 numbers \(4; 5; 6; 7; 8\) missing that the list of"),
        (path.read_text().replace("8 2", "8 3"), r"split\.txt: 1 split \(3\), where 0 is train, 1 valid and 2 test"),
        ("1 0\nx 1\n", r"split\.txt: line 2: 'x 1' is not the number of an image and 1 more"),
        ("1 0\n1 1\n", r"split\.txt: line 2: image 1 for the second time"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            cub(tmp_path, split_file=path).read()
    with pytest.raises(ValueError, match=r"nowhere: cannot be read"):
        cub(tmp_path, split_file=tmp_path / "nowhere").read()


def test_what_is_listed_and_not_there_is_named(tmp_path: Path) -> None:
    folder = tree(tmp_path)
    (folder / "segmentations" / f"{name_of(1)}.png").unlink()
    (folder / "CUB_200_2011" / "images" / f"{name_of(2)}.jpg").unlink()
    (folder / "CUB_200_2011" / "images" / f"{name_of(6)}.jpg").write_bytes(b"no image")
    missing, damaged, _ = cub(folder).read().notes
    assert all(name_of(number) in missing for number in (1, 2))
    assert "that are listed, but have no photograph or no mask, left out" in missing
    assert f"photograph {name_of(6)}: no image" in damaged
    for number in (7, 8):
        (folder / "CUB_200_2011" / "images" / f"{name_of(number)}.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="no pair of the test split can be decoded"):
        cub(folder).read()


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("images", "1 ../../secret.jpg", r"a list names '.*\.\./\.\./secret\.\w+', which leads out of its folder"),
        ("images", "9 other.jpg", r"train_test_split\.txt: 1 number \(1\) that CUB_200_2011/images\.txt has not; mend"),
        ("bounding_boxes", "1 2", r"bounding_boxes\.txt: line 1: '1 2' is not the number of an image and 4 more"),
        ("bounding_boxes", "1 a b c d", r"bounding_boxes\.txt: image 1: 'a b c d' are not four numbers"),
        ("train_test_split", "", r"train_test_split\.txt: 1 number \(1\) missing that CUB_200_2011/images\.txt has"),
    ],
)
def test_damaged_lists(tmp_path: Path, text: str, line: str, message: str) -> None:
    path = tree(tmp_path) / "CUB_200_2011" / f"{text}.txt"
    path.write_text("\n".join([line, *path.read_text().splitlines()[1:]]))
    with pytest.raises(ValueError, match=message):
        cub(tmp_path).fingerprint()


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no images\.txt, nor has CUB_200_2011/ in it; set corpus\.path"):
        cub(tmp_path).read()
    with pytest.raises(ValueError, match=r"nowhere\.tgz: there is no such folder or archive; set corpus\.path"):
        cub(tmp_path / "nowhere.tgz").read()
    (tmp_path / "no.tgz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"no\.tgz: cannot be read as a tar archive"):
        cub(tmp_path / "no.tgz").read()
    folder = tree(tmp_path / "tree")
    archive = pack(tmp_path / "whole.tgz", folder, "CUB_200_2011", "segmentations")
    archive.write_bytes(archive.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"whole\.tgz: cannot be read as a tar archive"):
        cub(archive).read()
    (folder / "CUB_200_2011" / "bounding_boxes.txt").unlink()
    with pytest.raises(ValueError, match=r"there is no CUB_200_2011/bounding_boxes\.txt; use the whole data set"):
        cub(folder).read()
    with pytest.raises(
        ValueError, match=r"lists 5 photographs to train on, of which corpus\.num_valid = 5 leaves none"
    ):
        cub(tree(tmp_path / "again"), num_valid=5).read()


@pytest.mark.parametrize("hostile", ["../escape.txt", "/etc/absolute.txt", "symbolic", "hard", "device"])
def test_a_hostile_archive_is_refused(tmp_path: Path, hostile: str) -> None:
    """Whatever else it holds, and wherever in it the member stands."""
    folder = tree(tmp_path / "plain")
    archive = tmp_path / "CUB_200_2011.tgz"
    member = tarfile.TarInfo(hostile)
    kinds = {"symbolic": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}
    member.type, member.linkname = kinds.get(hostile, tarfile.REGTYPE), "CUB_200_2011/images.txt"
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder / "CUB_200_2011", "CUB_200_2011")
        file.add(folder / "segmentations", "segmentations")
        file.addfile(member, io.BytesIO())
    with pytest.raises(ValueError, match=r"CUB_200_2011\.tgz: refused, because .*; download the archive again"):
        cub(archive).read()
    assert not (tmp_path.parent / "escape.txt").exists()


def test_settings_of_the_other_edition_are_refused() -> None:
    adapter = TypeAdapter(ImageCorpus)
    assert adapter.validate_json('{"kind": "cub", "path": "x", "split_file": "y"}').resolved().split_file.is_absolute()
    with pytest.raises(ValidationError, match="split_file and segmentations are of edition 2011"):
        adapter.validate_json('{"kind": "cub", "path": "x", "edition": 2010, "split_file": "y"}')


def test_the_fingerprint_names_what_batches_depend_on(tmp_path: Path) -> None:
    folder = tree(tmp_path)
    keys = [{}, {"size": 7}, {"threshold": 100}, {"crop": "none"}, {"num_valid": 3}, {"split_seed": 1}]
    assert len({cub(folder, **each).fingerprint() for each in keys}) == len(keys)


def test_the_real_pair(data: Path, tmp_path: Path) -> None:
    """One photograph and mask as they are published, in the tree of the others."""
    folder = tree(tmp_path)
    shutil.copy(data / "cub_pair" / "image1.jpg", folder / "CUB_200_2011" / "images" / f"{name_of(6)}.jpg")
    shutil.copy(data / "cub_pair" / "image2.png", folder / "segmentations" / f"{name_of(6)}.png")
    splits = cub(folder, crop="none", size=128).read()
    foreground = splits.test.levels[0, 0] > 0
    assert 0.02 < foreground.mean() < 0.9
    with Image.open(data / "cub_pair" / "image2.png") as image:
        assert set(np.unique(np.asarray(image))) == set(LEVELS)
        share = (np.asarray(image) > 127).mean()
    assert foreground.mean() == pytest.approx(share, abs=0.01)


def test_of_two_members_of_one_name_the_first_counts(tmp_path: Path) -> None:
    root = tree(tmp_path)
    whole = pack(tmp_path / "whole.tgz", root, "CUB_200_2011", "segmentations")
    twice = pack(tmp_path / "twice.tgz", root, "CUB_200_2011", "segmentations", "CUB_200_2011/images", "segmentations")
    assert cub(twice).fingerprint() == cub(whole).fingerprint()
    assert len(load_images(cub(twice)).train) == len(load_images(cub(whole)).train)


def test_a_pipe_is_no_archive(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "birds.tgz")
    with pytest.raises(ValueError, match=r"birds.tgz: cannot be read .*not a plain file"):
        load_images(cub(tmp_path / "birds.tgz"))


def test_a_member_without_end_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "birds.tgz", "w:gz") as archive:
        member = tarfile.TarInfo("other.txt")
        member.pax_headers = {"size": "9" * 20}
        archive.addfile(member)
        archive.addfile(tarfile.TarInfo("another.txt"))
    with pytest.raises(ValueError, match=r"birds.tgz: 'other.txt': has 99,999,999,999,999,999,999 bytes, more than"):
        load_images(cub(tmp_path / "birds.tgz"))
