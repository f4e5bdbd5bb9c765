from dataclasses import replace

import numpy as np
import pytest
from image_files import tiny_arrays, write
from pydantic import TypeAdapter, ValidationError

from corpora.images import Digits, FashionMnist, ImageCorpus, Images, LevelSplits, Mnist, binarise, load_images
from corpora.texts import SPLITS


def test_the_digits():
    splits = Digits().read()
    assert [len(split) for split in (splits.train, splits.valid, splits.test)] == [1297, 200, 300]
    assert splits.train.shape == (1, 8, 8)
    assert splits.class_names == tuple("0123456789")
    levels = np.concatenate([splits.train.levels, splits.valid.levels, splits.test.levels])
    assert np.unique(levels).tolist() == [round(255 * level / 16) for level in range(17)]
    assert len(np.unique(levels.reshape(len(levels), -1), axis=0)) == 1797
    for split in (splits.valid, splits.test):
        shares = np.bincount(split.labels) / len(split)
        assert shares == pytest.approx(np.bincount(splits.train.labels) / len(splits.train), abs=0.005)


def test_the_digits_and_their_draw_are_always_the_same():
    """A change of these digests is a change of every figure on digits."""
    assert Digits().read().digest().startswith("960ad9c28c7c8a9b")
    splits = load_images(Digits())
    drawn = LevelSplits(source="", train=splits.by_name()["train"], valid=splits.valid, test=splits.test)
    assert drawn.digest().startswith("1452fbb2857dc049")


def test_evaluation_splits_are_drawn_once_and_train_is_left_grey():
    one, other = load_images(Digits()), load_images(Digits())
    grey = Digits().read()
    assert np.array_equal(one.train.levels, grey.train.levels)
    for number, name in enumerate(SPLITS):
        drawn = one.by_name()[name]
        assert np.array_equal(drawn.levels, other.by_name()[name].levels)
        assert np.array_equal(drawn.levels, binarise(getattr(grey, name), "dynamic", (0, number)).levels)
        assert np.array_equal(drawn.labels, getattr(grey, name).labels)
        assert set(np.unique(drawn.levels)) == {0, 255}
    assert one.by_name()["train"] is one.by_name()["train"]
    assert one.by_name()["test"] is one.test
    assert one.shape == (1, 8, 8)
    assert (one.binarisation, one.binarisation_seed) == ("dynamic", 0)


def test_the_seed_of_the_binarisation_changes_the_draw_alone():
    one, other = load_images(Digits()), load_images(Digits(binarisation_seed=1))
    assert not np.array_equal(one.test.levels, other.test.levels)
    assert np.array_equal(one.train.levels, other.train.levels)


@pytest.mark.parametrize(("binarisation", "num_levels"), [("threshold", 2), ("grey", 17)])
def test_other_binarisations(binarisation, num_levels):
    splits = load_images(Digits(binarisation=binarisation))
    assert all(len(np.unique(split.levels)) == num_levels for split in splits.by_name().values())
    assert splits.binarisation == binarisation


def test_the_fingerprint_names_what_figures_depend_on():
    found = {corpus.fingerprint() for corpus in (Digits(), Digits(binarisation_seed=1), Digits(binarisation="grey"))}
    assert len(found) == 3
    assert Digits().fingerprint() in found
    assert Digits().resolved() == Digits()


def test_notes_are_handed_on(tmp_path):
    splits = load_images(Mnist(path=write(tmp_path), num_valid=1))
    assert len(splits.notes) == 4
    assert splits.is_official is False
    assert splits.class_names == ("0", "1", "2")


def raises(folder, arrays, message, corpus=Mnist):
    with pytest.raises(ValueError, match=message) as caught:
        load_images(corpus(path=write(folder, arrays), num_valid=3))
    assert str(caught.value).startswith(f"{folder}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("corpus", [Mnist, FashionMnist])
def test_every_class_needs_a_training_image(tmp_path, corpus):
    gap = np.array([0, 2, 3] * 4)
    raises(
        tmp_path, {"train labels": gap}, r"a class without examples: none of the 9 training .* label 1 \(1\)", corpus
    )
    in_valid_only = np.array([0, 1, 1] * 3 + [0, 1, 2])
    raises(tmp_path, {"train labels": in_valid_only}, r"none of the 9 training images has label 2 \(2\); number the")
    raises(tmp_path, {"test labels": np.array([0, 1, 2, 3, 0, 1])}, r"label 3 \(3\)")


def test_test_images_must_have_the_size_of_the_training_images(tmp_path):
    other = {"test images": np.zeros((6, 3, 4))}
    raises(
        tmp_path, other, r"the test images have 1×3×4 values \(channels × height × width\), the training images 1×3×2"
    )


@pytest.mark.parametrize(("split", "label"), [("train", -1), ("valid", 3), ("test", 9)])
def test_labels_outside_of_the_classes(monkeypatch, split, label):
    rng = np.random.default_rng(0)
    images = {
        name: Images(levels=rng.integers(0, 256, (6, 1, 2, 2), dtype=np.uint8), labels=np.arange(6) % 3)
        for name in SPLITS
    }
    images[split].labels[4] = label
    stored = LevelSplits(source="here", **images, class_names=("a", "b", "c"))
    monkeypatch.setattr(Digits, "read", lambda self: stored)
    with pytest.raises(
        ValueError, match=rf"here: label {label} in the {split} split, where classes are numbered 0 to 2"
    ):
        load_images(Digits())


def test_the_corpora_are_told_apart_by_kind():
    corpus = TypeAdapter(ImageCorpus)
    assert corpus.validate_python({"kind": "digits"}) == Digits()
    assert corpus.validate_json('{"kind": "fashion_mnist", "path": "x"}').kind == "fashion_mnist"
    for kind in ("mnist", "mnist_static"):
        assert corpus.validate_json(f'{{"kind": "{kind}", "path": "x"}}').kind == kind
    assert corpus.validate_python({"kind": "image_hub", "name": "x"}).image_column == "image"
    with pytest.raises(
        ValidationError, match=r"'digits', .*'image_hub', 'masks', 'mnist', 'mnist_quadrants', 'mnist_static'"
    ):
        corpus.validate_python({"kind": "cifar"})


def test_the_fingerprint_of_unequal_cuts_differs(tmp_path):
    one = Mnist(path=write(tmp_path, tiny_arrays()), num_valid=1)
    assert replace(one, num_valid=2).fingerprint() != one.fingerprint()


def test_the_draw_of_mnist_is_close_to_its_grey_levels(data):
    grey = Mnist(path=data / "mnist").read().test
    drawn = load_images(Mnist(path=data / "mnist")).test
    assert drawn.mean.sum() == pytest.approx(grey.mean.sum(), abs=0.1)  # six standard errors
    assert np.array_equal(drawn.labels, grey.labels)
