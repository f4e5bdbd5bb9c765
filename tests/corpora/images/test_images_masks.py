"""Photographs and masks: what is paired, how it is decoded and split, and that nothing is lost without a word."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mask_files import write_pairs
from PIL import Image

from corpora.images import ImageBatches, Masks, image_evaluation_batches, load_images, members
from corpora.images.images import LevelSplits
from corpora.images.pairs import Box, Pair, decode_rgb, decode_splits, resized


def corpus(folder: Path, **keys: int) -> Masks:
    return Masks(path=folder, **({"size": 8, "num_valid": 2, "num_test": 3} | keys))


def test_a_batch_has_the_mask_and_the_photograph(tmp_path: Path) -> None:
    splits = load_images(corpus(write_pairs(tmp_path)))
    assert [len(split) for split in splits.by_name().values()] == [7, 2, 3]
    assert (splits.shape, splits.context_channels, splits.num_observed) == ((1, 8, 8), 3, 0)
    trained = ImageBatches(splits.train, 4, 0, splits.binarisation)[0]
    tested = next(iter(image_evaluation_batches(splits.test, 4)))
    for batch, split in ((trained, splits.train), (tested, splits.test)):
        assert batch.scored is None
        assert batch.context is not None
        assert batch.pixels.unique().tolist() == [0, 1]
        assert batch.context.shape[1:] == (3, 8, 8)
        expected = torch.from_numpy(split.context[batch.indices]).float() / 255
        torch.testing.assert_close(batch.context, expected, atol=0, rtol=0)
        inside = (batch.context.mean(1, keepdim=True) * batch.pixels).sum() / batch.pixels.sum()
        outside = (batch.context.mean(1, keepdim=True) * (1 - batch.pixels)).sum() / (1 - batch.pixels).sum()
        assert inside > outside + 0.2  # the mask belongs to its photograph
        torch.testing.assert_close(batch.take(torch.tensor([1])).context, batch.context[[1]], atol=0, rtol=0)


def test_the_horses(data: Path) -> None:
    splits = load_images(Masks(path=data / "weizmann_horses"))
    assert [len(split) for split in splits.by_name().values()] == [200, 27, 100]
    (note,) = splits.notes
    assert ": 5 photographs (" in note
    assert "horse004 (train) = horse146 (test)" in note
    assert splits.train.mean.mean() == pytest.approx(0.254, abs=0.001)


def test_the_split_depends_on_names_alone(tmp_path: Path) -> None:
    whole = corpus(write_pairs(tmp_path)).read()
    for seed in (0, 1):
        again = corpus(tmp_path, split_seed=seed).read()
        assert np.array_equal(again.test.levels, whole.test.levels) == (seed == 0)
    victim = tmp_path / "masks" / "p05.png"
    victim.write_bytes(victim.read_bytes()[:60])
    damaged = corpus(tmp_path).read()
    sizes = [[len(each.train), len(each.valid), len(each.test)] for each in (whole, damaged)]
    assert sum(before - after for before, after in zip(*sizes, strict=True)) == 1
    assert {level.tobytes() for level in damaged.test.levels} <= {level.tobytes() for level in whole.test.levels}
    assert len(damaged.notes) == 1
    assert "1 pair (mask p05: damaged" in damaged.notes[0]
    assert "that cannot be decoded left out" in damaged.notes[0]


def test_what_has_no_partner_is_counted_and_named(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    for number in range(11):
        (tmp_path / "masks" / f"p{number:02}.png").rename(tmp_path / "masks" / f"q{number:02}.png")
    with pytest.raises(ValueError, match=r"holds 1 photographs with masks, of which .* leave none to train on"):
        corpus(tmp_path).read()
    write_pairs(tmp_path)
    (tmp_path / "images" / "alone.JPG").write_bytes(b"")
    (tmp_path / "images" / ".hidden.png").write_bytes(b"")
    (tmp_path / "images" / "readme.txt").write_bytes(b"")
    photographs, without = (note.removeprefix(f"{tmp_path}: ") for note in corpus(tmp_path).read().notes)
    assert photographs == "1 photograph (alone) without a mask of the same name left out"
    assert (
        without
        == f"11 masks ({'; '.join(f'q{i:02}' for i in range(10))}; …) without a photograph of the same name left out"
    )


def test_names_reach_into_folders_and_endings_do_not_count(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    for part, ending in (("images", ".bmp"), ("masks", ".png")):
        (tmp_path / part / "more").mkdir()
        Image.open(tmp_path / part / "p00.png").save(tmp_path / part / "more" / f"p00{ending}")
    found = corpus(tmp_path).read()
    assert len(found.train) == 8
    assert found.notes == ()
    Image.open(tmp_path / "images" / "p00.png").save(tmp_path / "images" / "p00.bmp")
    with pytest.raises(ValueError, match=r"p00\.png: p00\.bmp has the same name but for its ending; take one"):
        corpus(tmp_path).read()


@pytest.mark.parametrize("missing", ["images", "masks", ""])
def test_no_folder_and_no_pair(tmp_path: Path, missing: str) -> None:
    folder = write_pairs(tmp_path / "corpus", 2)
    for path in (folder / "masks").iterdir():
        path.rename(path.with_stem(f"{path.stem}_mask"))
    if missing:
        (folder / missing).rename(tmp_path / "elsewhere")
        message = rf"{missing}: there is no such folder; set corpus\.path"
    else:
        message = r"no photograph has a mask of its name: in images/ there are 2 photographs \(p00; p01\), in masks/ 2 "
    with pytest.raises(ValueError, match=message):
        corpus(folder).read()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_photographs_of_every_mode_have_three_channels(mode: str) -> None:
    levels = np.zeros((4, 4), dtype=np.uint8)
    levels[:, 2:] = 255
    image = Image.fromarray(levels.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(levels).convert(mode)
    expected = np.broadcast_to(levels, (3, 4, 4))
    found = resized(decode_rgb("here", encoded(image, "TIFF")), 4)
    np.testing.assert_array_equal(found, expected)


def test_pillow_s_warnings_of_a_damaged_tag_are_not_shown() -> None:
    content = bytearray(encoded(Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)), "TIFF"))
    content[39] = 1  # of the length of a tag
    with pytest.warns(UserWarning, match="larger than file"):
        Image.open(io.BytesIO(content))
    assert decode_rgb("here", bytes(content)).size == (4, 4)


def test_transparency_is_dropped_without_a_warning() -> None:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=b"\x00\x80")
    assert decode_rgb("here", buffer.getvalue()).getpixel((0, 0)) == (200, 100, 50)


def encoded(image: Image.Image, file_format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format)
    return buffer.getvalue()


def pair(mask: Image.Image, photograph: Image.Image | None = None, **keys: Any) -> Pair:
    return Pair(name="p", photograph=encoded(photograph or mask.convert("RGB")), mask=encoded(mask), **keys)


def decoded(one: Pair, size: int = 6, threshold: int = 127) -> LevelSplits:
    """The pair as the training split, beside two that are as they should be."""
    plain = Image.fromarray(np.repeat(np.array([[0, 0, 0, 255, 255, 255]], dtype=np.uint8), 6, axis=0))
    turned = plain.transpose(Image.Transpose.ROTATE_90)
    others = {split: replace(pair(each), name=split) for split, each in (("valid", plain), ("test", turned))}
    chosen = {"train": [one.name]} | {split: [split] for split in others}
    return decode_splits("here", [*others.values(), one], chosen, size, threshold)


def six_levels() -> Image.Image:
    return Image.fromarray(np.repeat(np.array([[0, 51, 102, 153, 204, 255]], dtype=np.uint8), 6, axis=0))


@pytest.mark.parametrize(("threshold", "on"), [(127, 3), (0, 5), (204, 1)])
def test_levels_above_the_threshold_are_foreground(threshold: int, on: int) -> None:
    found = decoded(pair(six_levels()), threshold=threshold)
    assert (found.train.levels[0, 0] == np.array([0] * (6 - on) + [255] * on)).all()
    assert [note.removeprefix("here: 1 pair (p) with a mask of ") for note in found.notes] == [
        f"other levels than 0 and 255, of which those above {threshold} are foreground"
    ]


def test_the_first_channel_of_a_mask_counts() -> None:
    other = Image.fromarray(255 - np.asarray(six_levels()))
    for mask in (Image.merge("LA", (six_levels(), other)), Image.merge("RGB", (six_levels(), other, other))):
        found = decoded(pair(mask))
        assert (found.train.levels[0, 0] == np.array([0, 0, 0, 255, 255, 255])).all()


def test_sizes_are_reconciled() -> None:
    """A mask of twice the size is read at the nearest pixel, a photograph averaged, and both remain in place."""
    mask = six_levels().resize((12, 12), Image.Resampling.NEAREST)
    photograph = Image.fromarray(np.asarray(six_levels().convert("RGB").resize((18, 18), Image.Resampling.NEAREST)))
    found = decoded(pair(mask, photograph))
    assert any("(p) with a mask of another size" in note for note in found.notes)
    assert (found.train.levels[0, 0] == np.array([0, 0, 0, 255, 255, 255])).all()
    assert np.array_equal(np.unique(found.train.levels), [0, 255])
    assert found.train.context is not None
    assert (np.diff(found.train.context[0].astype(int), axis=2) > 30).all()
    box = (9.0, 0.0, 18.0, 9.0)  # the photograph's upper right quarter
    found = decoded(pair(mask, photograph, crop="box", box=box))
    assert (found.train.levels == 255).all()
    assert any("(p) with a mask that is all foreground" in note for note in found.notes)
    assert found.train.context is not None
    assert found.train.context.min() > 127


@pytest.mark.parametrize(("box", "on"), [((-5.0, -5.0, 2.0, 9.0), 0), ((3.0, 2.0, 60.0, 5.0), 6)])
def test_a_box_is_cut_at_the_edge(box: Box, on: int) -> None:
    found = decoded(pair(six_levels(), crop="box", box=box), threshold=100)
    assert (found.train.levels[0] > 0).sum() == 6 * on


def test_the_square_in_the_middle() -> None:
    wide = six_levels().crop((0, 0, 6, 2))
    found = decoded(pair(wide, crop="square"), size=2)
    assert found.train.levels[0, 0].tolist() == [[0, 255], [0, 255]]


def test_a_box_beside_the_photograph() -> None:
    with pytest.raises(
        ValueError, match=r"split can be decoded; .* p: box \(6.0, 0.0, 9.0, 3.0\) holds no pixel of its 6×6"
    ):
        decoded(pair(six_levels(), crop="box", box=(6.0, 0.0, 9.0, 3.0)))


def test_masks_without_foreground(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    path = tmp_path / "masks" / "p03.png"
    Image.open(path).point(lambda level: level // 255).save(path)
    assert corpus(tmp_path).read().notes[1].endswith("1 pair (p03) with a mask without foreground (above 127)")
    for path in (tmp_path / "masks").iterdir():
        Image.open(path).point(lambda level: level // 255).save(path)
    with pytest.raises(ValueError, match=r"none of 12 masks has a level above corpus\.threshold = 127.*to 0 where"):
        corpus(tmp_path).read()
    assert corpus(tmp_path, threshold=0).read().train.levels.max() == 255


def test_a_split_of_damaged_images_alone_is_an_error(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    for path in (tmp_path / "images").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"no pair of the train split can .* photograph p\d\d: no image that"):
        corpus(tmp_path).read()


def test_a_bomb_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    small = pair(six_levels())
    for limit in (17, 35):  # the first makes Pillow refuse, the second warn
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ValueError, match=r"photograph (p|test|valid): too large \(Image size \(36 pixels\)"):
            decoded(small)


def test_too_large_a_corpus_and_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"corpus\.size: 10,000,000 pairs of 128×128 pixels have 655,360,000,000 val"):
        decode_splits("here", [], {"train": ["p"] * 10_000_000, "valid": [], "test": []}, 128, 127)
    monkeypatch.setattr(members, "MAX_FILE_BYTES", 10)
    with pytest.raises(ValueError, match=r"p\d\d\.png: has .* bytes, more than the 10 that are read"):
        corpus(write_pairs(tmp_path)).fingerprint()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_unknown_range_are_of_no_use(mode: str) -> None:
    image = encoded(Image.new(mode, (2, 2)), "TIFF")
    with pytest.raises(ValueError, match=rf"here: damaged or of no use \(pixels of 32 bits, in mode {mode}\)"):
        decode_rgb("here", image)


def test_the_fingerprint_names_what_batches_depend_on(tmp_path: Path) -> None:
    one = corpus(write_pairs(tmp_path / "one"))
    assert corpus(write_pairs(tmp_path / "two")).fingerprint() == one.fingerprint()
    other_keys = [
        {name: getattr(one, name) + 1} for name in ("size", "threshold", "num_valid", "num_test", "split_seed")
    ]
    found = {corpus(tmp_path / "one", **keys).fingerprint() for keys in ({}, *other_keys)}
    for part in ("images", "masks"):
        path = tmp_path / "two" / part / "p07.png"
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
        found.add(corpus(tmp_path / "two").fingerprint())
    assert len(found) == 8
    assert one.resolved().path.is_absolute()


@pytest.mark.parametrize("size", [5, 8, 40])
def test_photographs_that_are_repeated_across_splits_are_named(tmp_path: Path, size: int) -> None:
    """Also where they were encoded anew or are a little brighter, but not within a split."""
    assert not corpus(write_pairs(tmp_path), size=size).read().notes
    train, valid, test = corpus(tmp_path)._split(tmp_path, [f"p{number:02}" for number in range(12)]).values()
    for source, target in ((train[0], test[0]), (train[1], train[2]), (valid[0], test[1])):
        image = Image.open(tmp_path / "images" / f"{source}.png").point(lambda level: min(255, level + 2))
        image.save(tmp_path / "images" / f"{target}.png")
    (note,) = corpus(tmp_path, size=size).read().notes
    named = f"({train[0]} (train) = {test[0]} (test); {valid[0]} (valid) = {test[1]} (test))"
    assert note == f"{tmp_path}: 2 photographs {named} nearly equal across splits, kept: take one of each away"
