"""Photographs and masks: what is paired, how it is decoded and split, and that nothing is lost without a word."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from corpora.images import ImageBatches, Masks, image_evaluation_batches, load_images


def write_pairs(folder: Path, num_pairs: int = 12, size: tuple[int, int] = (20, 14)) -> Path:
    """Photographs of noise, brighter in a rectangle, whose mask is that rectangle."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    width, height = size
    for number in range(num_pairs):
        mask = np.zeros((height, width), dtype=np.uint8)
        left, top = rng.integers(1, width // 2), rng.integers(1, height // 2)
        mask[top : top + height // 2, left : left + width // 2] = 255
        photograph = (rng.integers(0, 100, (height, width, 3)) + mask[..., None] // 2).astype(np.uint8)
        Image.fromarray(photograph).save(folder / "images" / f"p{number:02}.png")
        Image.fromarray(mask).save(folder / "masks" / f"p{number:02}.png")
    return folder


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
    assert splits.notes == ()
    assert splits.train.mean.mean() == pytest.approx(0.254, abs=0.001)
