"""The judge of samples: the Fréchet distance against its closed form, the confusion matrix, the stored classifier."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from tiny import start_image_run, tiny_image_recipe

from corpora.images import Digits, Images, ImageSplits, load_images
from imagevae import classifier as classifier_module
from imagevae.classifier import Classifier, trained_classifier
from imagevae.sample_quality import draw_images, frechet_distance, frechet_estimate, measure_samples
from imagevae.session import TrainedImages, open_trained_images
from latent.measures import Estimate


@pytest.fixture(scope="module")
def splits() -> ImageSplits:
    return load_images(Digits(binarisation="threshold"))


@pytest.fixture(scope="module")
def judge(splits: ImageSplits) -> Classifier:
    return trained_classifier(Digits(binarisation="threshold"), splits)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> TrainedImages:
    recipe = tiny_image_recipe("digits_cvae", "corpus.binarisation=threshold", "train.epochs=25")
    return open_trained_images(start_image_run(recipe, tmp_path_factory.mktemp("cvae") / "run"))


def test_the_frechet_distance_is_that_of_the_two_normals() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6)), rng.normal(1.0, 2.0, size=(400, 6))
    one, other = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    expected = np.square(first.mean(0) - second.mean(0)).sum() + np.trace(one + other - 2 * sqrtm(one @ other).real)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(first, first) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-8)


def test_fewer_rows_than_features_are_no_trouble() -> None:
    rng = np.random.default_rng(1)
    few = rng.normal(size=(5, 20))
    assert frechet_distance(few, few) == pytest.approx(0.0, abs=1e-6)
    assert np.isfinite(frechet_distance(few, rng.normal(size=(50, 20))))


def test_the_distance_grows_with_the_shift_and_its_interval_holds_the_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)
    draw = lambda shift: torch.randn(4000, 3, generator=generator, dtype=torch.float64) + shift  # noqa: E731
    near, far = frechet_estimate(draw(0.0), draw(0.0)), frechet_estimate(draw(0.0), draw(1.0))
    assert near.value < 0.02
    assert far.low < 3.0 < far.high  # ‖(1, 1, 1)‖² with equal covariances
    assert far.high - far.low < 0.5


def test_the_classifier_is_trained_once_and_is_good(
    splits: ImageSplits, judge: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert judge.accuracy.low > 0.85

    def train_again(*arguments: object) -> None:
        raise AssertionError("it is in the cache")

    monkeypatch.setattr(classifier_module, "_train", train_again)
    again = trained_classifier(Digits(binarisation="threshold"), splits)
    assert again.accuracy == judge.accuracy
    images = splits.test.batch(range(20)).pixels
    torch.testing.assert_close(again.features(images), judge.features(images), atol=0, rtol=0)


def test_training_it_leaves_the_callers_random_numbers_alone(
    splits: ImageSplits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier_module, "NUM_EPOCHS", 1)
    monkeypatch.setattr(classifier_module, "LEAST_STEPS", 1)
    monkeypatch.setattr(classifier_module, "VERSION", -1)  # nothing is stored under it
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trained_classifier(Digits(binarisation="threshold"), splits)
    torch.testing.assert_close(torch.rand(3), expected, atol=0, rtol=0)


def test_a_corpus_without_labels_has_no_classifier(splits: ImageSplits) -> None:
    unlabelled = ImageSplits(
        train=Images(levels=splits.train.levels),
        valid=Images(levels=splits.valid.levels),
        test=Images(levels=splits.test.levels),
        binarisation="threshold",
        binarisation_seed=0,
    )
    with pytest.raises(ValueError, match="corpus digits: its images have no labels"):
        trained_classifier(Digits(), unlabelled)


def test_samples_of_a_conditional_model_are_of_the_class_asked_for(
    conditional: TrainedImages, judge: Classifier
) -> None:
    images = conditional.splits.test.batch(range(200)).pixels
    found = measure_samples(conditional, judge, images)
    assert found.num_samples == 200
    assert found.confusion is not None
    assert found.conditional_accuracy is not None
    confusion = np.array(found.confusion)
    assert (confusion.sum(1) == 20).all()
    assert found.conditional_accuracy.value == pytest.approx(np.trace(confusion) / 200)
    assert found.conditional_accuracy.value > 0.3  # a tenth by chance
    assert found.classifier_accuracy == judge.accuracy
    assert isinstance(found.frechet_distance, Estimate)


def test_draws_are_pixels_and_a_function_of_the_seed(conditional: TrainedImages) -> None:
    labels = torch.arange(30) % 10
    first, again = draw_images(conditional, labels, 3), draw_images(conditional, labels, 3)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert first.shape == (30, 1, 8, 8)
    torch.testing.assert_close(first, again, atol=0, rtol=0)
    assert (draw_images(conditional, labels, 4) != first).any()
