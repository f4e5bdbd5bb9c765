"""Training images varied at random: what varies, what goes together, and that it is a function of the seed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from corpora.images import Augmentation, ImageBatch, ImageBatches, Images

ALL = Augmentation(flip=0.5, smallest_crop=0.5, contrast=0.3, largest_hole=0.4)


def images(num_images: int = 40, size: int = 32) -> Images:
    """Masks with a rectangle, and photographs of which the mask is a channel."""
    rng = np.random.default_rng(0)
    masks = np.zeros((num_images, 1, size, size), dtype=np.uint8)
    for mask, (left, top) in zip(masks[:, 0], rng.integers(4, size // 2, (num_images, 2)), strict=True):
        mask[top : top + size // 3, left : left + size // 4] = 255
    others = rng.integers(0, 256, (num_images, 2, size, size), dtype=np.uint8)
    return Images(levels=masks, context=np.concatenate([masks, others], 1))


def batch() -> ImageBatch:
    return images().batch(range(40))


def test_nothing_asked_for_changes_nothing() -> None:
    found = Augmentation()(batch(), 0)
    torch.testing.assert_close(found.pixels, batch().pixels, atol=0, rtol=0)
    torch.testing.assert_close(found.context, batch().context, atol=1e-6, rtol=0)


def test_a_flip_exchanges_left_and_right_of_both() -> None:
    found = Augmentation(flip=1.0)(batch(), 0)
    torch.testing.assert_close(found.pixels, batch().pixels.flip(-1), atol=0, rtol=0)
    torch.testing.assert_close(found.context, batch().context.flip(-1), atol=1e-6, rtol=0)
    mixed = Augmentation(flip=0.5)(batch(), 0)
    is_flipped = (mixed.pixels == batch().pixels.flip(-1)).flatten(1).all(1)
    assert 8 < is_flipped.sum() < 32
    torch.testing.assert_close(mixed.pixels[~is_flipped], batch().pixels[~is_flipped], atol=0, rtol=0)


def test_a_crop_is_of_both_alike_and_the_mask_stays_binary() -> None:
    found = Augmentation(flip=0.5, smallest_crop=0.5)(batch(), 1)
    assert found.pixels.unique().tolist() == [0, 1]
    assert (found.pixels != batch().pixels).flatten(1).any(1).all()
    agree = ((found.context[:, :1] > 0.5) == (found.pixels > 0.5)).float().mean()
    assert agree > 0.99  # but for pixels on the rectangle's edge
    assert found.pixels.mean() > 1.2 * batch().pixels.mean()  # what is left is larger


def test_a_crop_of_a_ramp_is_the_piece_that_was_asked_for() -> None:
    ramp = torch.linspace(0, 1, 16).repeat(1, 1, 16, 1)
    flat = ImageBatch(pixels=torch.zeros(1, 1, 16, 16), indices=torch.zeros(1, dtype=torch.int64), context=ramp)
    for seed in range(5):
        row = Augmentation(smallest_crop=0.5)(flat, seed).context[0, 0, 0, 1:-1]
        steps = row.diff()
        assert 0.5 / 15 - 1e-6 <= steps.mean() <= 1 / 15 + 1e-6
        torch.testing.assert_close(steps, steps.mean().expand(13), atol=1e-5, rtol=0)


def test_light_varies_by_channel_and_the_mask_does_not() -> None:
    found = Augmentation(contrast=0.3)(batch(), 2)
    torch.testing.assert_close(found.pixels, batch().pixels, atol=0, rtol=0)
    assert (found.context.min() >= 0) & (found.context.max() <= 1)
    changed = (found.context - batch().context).abs()
    assert changed.max() <= 0.6
    assert (changed.flatten(2).amax(2) > 0.01).double().mean() > 0.9
    dark = found.context[:, 0][batch().pixels[:, 0] == 0]  # 0 there before: what was added, where it was more than 0
    assert len(dark.unique()) > 15


def test_a_hole_is_a_square_of_x_alone() -> None:
    bright = replace(batch(), context=torch.ones(40, 3, 32, 32))
    found = Augmentation(largest_hole=0.4)(bright, 3)
    torch.testing.assert_close(found.pixels, bright.pixels, atol=0, rtol=0)
    sides = []
    for image in found.context:
        hole = image[0] == 0
        assert (image == image[:1]).all()
        sides.append(int(hole.any(0).sum()))
        assert hole.any(1).sum() == sides[-1]
        assert hole.sum() == sides[-1] ** 2
    assert max(sides) in (12, 13)
    assert min(sides) <= 2


def test_a_batch_is_a_function_of_seed_and_number() -> None:
    def order(seed: int, augmentation: Augmentation | None = ALL) -> ImageBatches:
        return ImageBatches(images(), 10, seed, "threshold", augmentation)

    first, again = order(0), order(0)
    for index in (7, 3, 7):
        torch.testing.assert_close(again[index].context, first[index].context, atol=0, rtol=0)
        torch.testing.assert_close(again[index].pixels, first[index].pixels, atol=0, rtol=0)
    assert (order(0)[1].context != order(1)[1].context).any()
    assert order(0)[1].indices.tolist() == order(0, None)[1].indices.tolist()  # the order is that without


@pytest.mark.parametrize("index", [0, 4])
def test_the_same_image_is_varied_anew_in_each_epoch(index: int) -> None:
    order = ImageBatches(images(1), 1, 0, "threshold", ALL)
    assert (order[index].context != order[index + 1].context).any()
