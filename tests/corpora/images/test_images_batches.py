import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora.images import ImageBatches, Images, binarise, image_evaluation_batches

BINARISATIONS = ["dynamic", "static", "threshold", "grey"]


def images_of(num_images, shape=(1, 3, 2), labelled=False):
    """Grey images that can be told apart, unless they are binarised."""
    rng = np.random.default_rng(num_images)
    levels = rng.integers(0, 256, (num_images, *shape), dtype=np.uint8)
    return Images(levels=levels, labels=np.arange(num_images) % 3 if labelled else None)


def epoch(batches, number=0):
    return [batches[number * batches.num_batches + i] for i in range(batches.num_batches)]


sizes = st.integers(1, 50)
per_batch = st.integers(1, 60)


@settings(deadline=None, max_examples=60)
@given(sizes, per_batch, st.integers(0, 3), st.integers(0, 2**40))
def test_each_epoch_holds_every_image_once(num_images, images_per_batch, number, seed):
    images = images_of(num_images, labelled=True)
    batches = ImageBatches(images, images_per_batch, seed, "grey")
    found = epoch(batches, number)
    assert sorted(i for batch in found for i in batch.indices.tolist()) == list(range(num_images))
    assert all(len(batch) == images_per_batch for batch in found[:-1])
    assert 1 <= len(found[-1]) <= images_per_batch
    for batch in found:
        rows = batch.indices.numpy()
        assert np.array_equal(batch.pixels.numpy(), images.levels[rows].astype(np.float32) / 255)
        assert np.array_equal(batch.labels.numpy(), images.labels[rows])


@settings(deadline=None, max_examples=60)
@given(sizes, per_batch)
def test_weights_make_every_image_count_the_same(num_images, images_per_batch):
    batches = ImageBatches(images_of(num_images), images_per_batch, 0, "dynamic")
    found = epoch(batches)
    assert np.mean([batch.weight for batch in found]) == pytest.approx(1)
    per_image = [batch.weight / len(batch) / batches.num_batches for batch in found]
    assert per_image == pytest.approx([1 / num_images] * len(found))


@settings(deadline=None, max_examples=30)
@given(sizes, per_batch, st.lists(st.integers(0, 200), min_size=1, max_size=6), st.sampled_from(BINARISATIONS))
def test_a_batch_is_a_function_of_seed_and_index(num_images, images_per_batch, asked, binarisation):
    images = images_of(num_images)
    jumping = ImageBatches(images, images_per_batch, 7, binarisation)
    for index in asked:
        fresh = ImageBatches(images, images_per_batch, 7, binarisation)[index]
        assert torch.equal(jumping[index].pixels, fresh.pixels)
        assert torch.equal(jumping[index].indices, fresh.indices)


def test_epochs_and_seeds_have_their_own_order():
    images = images_of(50)
    one, other = ImageBatches(images, 50, 0, "grey"), ImageBatches(images, 50, 1, "grey")
    orders = [tuple(batch.indices.tolist()) for batch in (one[0], one[1], other[0])]
    assert len(set(orders)) == 3


def in_order(batch):
    return batch.pixels[batch.indices.argsort()]


def test_dynamic_pixels_are_drawn_anew_with_the_grey_levels_as_their_means():
    images = images_of(40, shape=(1, 5, 5))
    batches = ImageBatches(images, 40, 3, "dynamic")
    draws = torch.stack([in_order(batches[number]) for number in range(2000)])
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(draws[0], draws[1])
    means = torch.from_numpy(images.levels / 255)
    errors = (draws.double().mean(0) - means) / (means * (1 - means) / len(draws)).sqrt().clamp(min=1e-9)
    assert errors.abs().max() < 5
    assert errors.square().mean() == pytest.approx(1, abs=0.15)
    other = ImageBatches(images, 40, 4, "dynamic")
    assert not torch.equal(in_order(other[0]), draws[0])


def test_what_other_binarisations_leave_alone_stays_from_epoch_to_epoch():
    images = images_of(10)
    for binarisation, expected in (
        ("grey", torch.from_numpy(images.levels).float() / 255),
        ("threshold", torch.from_numpy(images.levels >= 128).float()),
    ):
        batches = ImageBatches(images, 10, 0, binarisation)
        assert torch.equal(in_order(batches[0]), expected)
        assert torch.equal(in_order(batches[5]), expected)


def test_the_order_has_no_end_and_no_past():
    batches = ImageBatches(images_of(3), 2, 0, "dynamic")
    assert len(batches[10**12]) == 2
    with pytest.raises(IndexError, match="starts at 0"):
        batches[-1]


@pytest.mark.parametrize("binarisation", ["dynamic", "threshold"])
def test_black_and_white_stay_what_they_are(binarisation):
    levels = np.zeros((1000, 1, 2, 1), dtype=np.uint8)
    levels[:, :, 1] = 255
    assert np.array_equal(binarise(Images(levels=levels), binarisation, 0).levels, levels)


def test_the_threshold_is_at_128():
    levels = np.array([0, 127, 128, 255], dtype=np.uint8).reshape(4, 1, 1, 1)
    assert binarise(Images(levels=levels), "threshold", 0).levels.ravel().tolist() == [0, 0, 255, 255]


def test_the_draw_of_an_image_depends_on_its_index_alone():
    images = images_of(200, shape=(3, 4, 4))
    whole = binarise(images, "dynamic", (1, 2)).levels
    part = binarise(images.select(np.arange(77)), "dynamic", (1, 2)).levels
    assert np.array_equal(part, whole[:77])
    assert not np.array_equal(binarise(images, "dynamic", (1, 1)).levels, whole)


def test_static_and_grey_images_are_left_alone():
    images = images_of(5)
    assert binarise(images, "static", 0) is images
    assert binarise(images, "grey", 0) is images


def test_evaluation_sees_every_image_once_in_order_and_as_it_is():
    images = images_of(7, labelled=True)
    found = list(image_evaluation_batches(images, 3))
    assert [batch.indices.tolist() for batch in found] == [[0, 1, 2], [3, 4, 5], [6]]
    assert np.array_equal(torch.cat([batch.pixels for batch in found]).numpy() * 255, images.levels)
    assert {batch.weight for batch in found} == {1.0}


def test_a_batch_can_be_moved_and_taken_from():
    batch = images_of(6, labelled=True).batch([4, 0, 5, 1], weight=2.0)
    assert batch.to("cpu").indices.tolist() == [4, 0, 5, 1]
    taken = batch.take(torch.tensor([2, 0]))
    assert taken.indices.tolist() == [5, 4]
    assert taken.labels.tolist() == [2, 1]
    assert torch.equal(taken.pixels, batch.pixels[[2, 0]])
    assert taken.weight == 1.0
    assert len(batch.take(torch.zeros(0, dtype=torch.int64))) == 0
    assert images_of(6).batch([1]).take(torch.tensor([0])).to("cpu").labels is None


def test_a_batch_shares_no_memory_with_its_split():
    images = images_of(4, labelled=True)
    before = images.levels.copy(), images.labels.copy()
    batch = images.batch(np.arange(4))
    batch.pixels.fill_(0), batch.indices.fill_(0), batch.labels.fill_(0)
    assert np.array_equal(images.levels, before[0])
    assert np.array_equal(images.labels, before[1])


def test_the_mean_is_of_each_pixel():
    images = images_of(9, shape=(2, 3, 4))
    assert images.mean.shape == images.shape == (2, 3, 4)
    assert images.mean == pytest.approx((images.levels / 255).mean(0))
