"""Runs on photographs and masks: trained, resumed and measured, and what does not fit them."""

import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tiny import checkpoints, photographs, resume_image_run, rows, start_image_run, tiny_image_recipe

import cli
from imagevae.measuring import measure
from imagevae.models import StructuredCvaeConfig
from imagevae.networks import MlpConfig
from imagevae.session import open_trained_images
from imagevae.side import IMAGE
from latent.training import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = tiny_image_recipe("horses_cvae", "train.epochs=6", "train.keep_checkpoints=9")
    return start_image_run(recipe, tmp_path_factory.mktemp("horses") / "run")


def test_a_resumed_run_has_the_weights_of_one_that_was_not_stopped(run: Run, tmp_path: Path) -> None:
    assert IMAGE.load_recipe(run.config_path).train.augmentation is not None
    other = Path(shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns("lock")))
    shutil.rmtree(other / "checkpoints" / "step-000024")
    resumed = resume_image_run(Run.open(other))
    assert checkpoints(resumed) == checkpoints(run)
    assert rows(resumed) == rows(run)


def test_only_training_images_are_varied(run: Run) -> None:
    material = IMAGE.read(IMAGE.load_recipe(run.config_path), None)
    data = material.training_data()
    trained, evaluated = data.batches[0], data.validation[0]
    stored = material.splits.train.batch(trained.indices.numpy())
    assert (trained.context != stored.context).flatten(1).any(1).all()
    expected = material.splits.valid.batch(evaluated.indices.numpy()).context.sum((1, 2, 3)).sort().values
    torch.testing.assert_close(evaluated.context.sum((1, 2, 3)).sort().values, expected, atol=0, rtol=0)


def test_a_run_is_measured_on_all_pixels(run: Run) -> None:
    figures = measure(open_trained_images(run), num_samples=4).figures
    assert figures.conditional is not None
    assert figures.conditional.num_scored == 256
    assert figures.conditional.num_observed == 0
    assert torch.tensor([figures.nll.value, figures.conditional.nll_from_prior.value]).isfinite().all()


@pytest.mark.parametrize(
    ("recipe", "override", "message"),
    [
        ("horses_cvae", "model.latent_size=33", "model.latent_size: a map of z has 4×4 places"),
        ("horses_cvae", "train.augmentation.smallest_crop=0.0", "train.augmentation.smallest_crop: Input should be"),
        ("horses_cvae", "model={kind: vae}", "model.kind: vae does not fit corpus.kind masks; set model.kind=struct"),
        ("digits_quadrant1", "train.augmentation={flip: 0.5}", "corpus.kind digits_quadrants has none; set train.aug"),
    ],
)
def test_what_does_not_fit_is_refused(recipe: str, override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        start_image_run(tiny_image_recipe(recipe, override), tmp_path / "run")


def test_the_dry_run_finds_an_augmentation_without_photographs() -> None:
    done = CliRunner().invoke(cli.cli, ["train", "digits_vae", "--dry-run", "--set=train.augmentation={flip: 0.5}"])
    assert "train.augmentation: it varies photographs and their masks" in str(done.exception)


def test_networks_without_maps_read_photographs_too(tmp_path: Path) -> None:
    network = "model.network={kind: mlp, hidden_sizes: [9]}"
    recipe = tiny_image_recipe("horses_cvae", network, "model.latent_size=3", f"corpus.path={photographs()}")
    assert recipe.model == StructuredCvaeConfig(latent_size=3, network=MlpConfig(hidden_sizes=(9,)))
    trained = open_trained_images(start_image_run(recipe, tmp_path / "run"))
    assert measure(trained, num_samples=2, limit=2).figures.nll.value > 0
