"""Quadrants: which pixels are given, what is given of them, and that both go with an image wherever it goes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import tiny_arrays, write

from corpora.images import DigitsQuadrants, ImageBatches, MnistQuadrants, image_evaluation_batches, load_images
from corpora.images.quadrants import observed_quadrants

LOWER_LEFT = [[0, 0], [1, 0]]
LEFT_HALF = [[1, 0], [1, 0]]
ALL_BUT_LOWER_RIGHT = [[1, 1], [1, 0]]
QUADRANTS = {1: LOWER_LEFT, 2: LEFT_HALF, 3: ALL_BUT_LOWER_RIGHT}


@pytest.mark.parametrize("num_quadrants", [1, 2, 3])
@pytest.mark.parametrize(("side", "scored"), [(28, (588, 392, 196)), (8, (48, 32, 16))])
def test_which_quadrants_are_given(num_quadrants: int, side: int, scored: tuple[int, ...]) -> None:
    observed = observed_quadrants((1, side, side), num_quadrants, "here")
    assert (~observed).sum() == scored[num_quadrants - 1]
    corners = observed[0][:: side - 1, :: side - 1]
    np.testing.assert_array_equal(corners, np.array(QUADRANTS[num_quadrants], dtype=bool))
    np.testing.assert_array_equal(observed[0], np.kron(corners, np.ones((side // 2, side // 2), dtype=bool)))


def test_an_odd_side_has_its_middle_below_and_to_the_right() -> None:
    observed = observed_quadrants((2, 5, 3), 1, "here")
    assert observed.sum(axis=(1, 2)).tolist() == [3, 3]
    assert observed[:, 2:, 0].all()


@pytest.mark.parametrize("shape", [(1, 1, 8), (3, 8, 1)])
def test_images_without_quadrants_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"folder: images of .* have no quadrants"):
        observed_quadrants(shape, 2, "folder")


@pytest.mark.parametrize("context", ["binarised", "grey"])
@pytest.mark.parametrize("num_quadrants", [1, 2, 3])
def test_the_context_is_the_given_part_and_nothing_else(num_quadrants: int, context: str) -> None:
    splits = load_images(DigitsQuadrants(num_quadrants=num_quadrants, context=context))
    observed = torch.from_numpy(observed_quadrants((1, 8, 8), num_quadrants, "digits"))
    assert splits.num_observed == observed.sum()
    grey = load_images(DigitsQuadrants(binarisation="grey"))
    trained = ImageBatches(splits.train, 100, 0, splits.binarisation)[5]
    tested = next(iter(image_evaluation_batches(splits.test, 50)))
    for batch, levels in ((trained, grey.train.levels), (tested, grey.test.levels)):
        source = torch.from_numpy(levels[batch.indices]).float() / 255 if context == "grey" else batch.pixels
        assert batch.context is not None
        assert ((batch.pixels == 0) | (batch.pixels == 1)).all()
        torch.testing.assert_close(batch.context, source * observed, atol=0, rtol=0)
        assert (batch.scored == ~observed).all()
        taken = batch.take(torch.tensor([3, 1])).to("cpu")
        torch.testing.assert_close(taken.context, batch.context[[3, 1]], atol=0, rtol=0)
        assert (taken.scored == batch.scored).all()


def test_a_mean_over_what_is_scored() -> None:
    batch = next(iter(image_evaluation_batches(load_images(DigitsQuadrants(num_quadrants=3)).test, 4)))
    values = torch.arange(4 * 64).reshape(4, 64).double()
    expected = values.unflatten(1, (8, 8))[:, 4:, 4:].mean((1, 2))
    torch.testing.assert_close(batch.mean_over_scored(values), expected)
    torch.testing.assert_close(replace(batch, scored=None).mean_over_scored(values), values.mean(1))


def test_what_is_given_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    write(tmp_path)
    corpora = [
        make(num_quadrants=number, context=context)
        for make in (DigitsQuadrants, lambda **keys: MnistQuadrants(path=tmp_path, num_valid=1, **keys))
        for number in (1, 2, 3)
        for context in ("binarised", "grey")
    ]
    assert len({corpus.fingerprint() for corpus in corpora}) == len(corpora)


def test_the_quadrants_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path)
    corpus = MnistQuadrants(path=tmp_path, num_valid=1, num_quadrants=2).resolved()
    assert corpus.path.is_absolute()
    splits = load_images(corpus)
    _, height, width = splits.shape
    assert splits.num_observed == height * (width // 2)
    assert splits.by_name()["train"].observed is not None


@pytest.mark.parametrize("context", ["binarised", "grey"])
def test_test_images_of_another_size_are_refused_as_ever(context: str, tmp_path: Path) -> None:
    larger = np.zeros((len(tiny_arrays()["test images"]), 4, 4))
    write(tmp_path, {"test images": larger})
    with pytest.raises(ValueError, match="use images of one size"):
        load_images(MnistQuadrants(path=tmp_path, num_valid=1, context=context))
