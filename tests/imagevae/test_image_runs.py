"""Runs of images: trained, resumed bit for bit, opened, and used by the verbs."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import resume_image_run, start_image_run, tiny_image_recipe
from typed import textvae

from imagevae import generation
from imagevae.form import FORM
from imagevae.measuring import measure
from imagevae.session import TrainedImages, open_trained_images
from latent.training import Run, RunError


def weights(run: Run) -> dict[str, torch.Tensor]:
    checkpoint, _ = run.checkpoint("last")
    return load_file(checkpoint.path / "model.safetensors")


@pytest.fixture(scope="module", params=["digits_vae", "digits_cvae", "digits_iwae5"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return start_image_run(tiny_image_recipe(request.param), tmp_path_factory.mktemp(request.param) / "run")


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> TrainedImages:
    path = tmp_path_factory.mktemp("conditional") / "run"
    return open_trained_images(start_image_run(tiny_image_recipe("digits_cvae"), path))


def test_a_run_stopped_and_resumed_is_the_same(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = open_trained_images(run).recipe

    class StoppedError(RuntimeError):
        pass

    def stop(*arguments: object, **settings: object) -> None:
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr("latent.training.loop.raise_alarm", stop)  # after the first checkpoint has been written
        with pytest.raises(StoppedError):
            start_image_run(recipe, tmp_path / "stopped")
    stopped = Run.open(tmp_path / "stopped")
    assert stopped.checkpoint("last")[0].step == recipe.train.checkpoint_steps
    resumed, expected = weights(resume_image_run(stopped)), weights(run)
    assert resumed.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(resumed[name], weight, atol=0, rtol=0)


def test_a_run_is_measured_with_its_binarisation(run: Run) -> None:
    trained = open_trained_images(run)
    found = measure(trained, num_samples=20, limit=50)
    figures = found.figures
    assert (figures.binarisation, figures.num_examples) == ("dynamic", 50)
    assert figures.nll.value <= -figures.elbo.value + 0.2
    assert figures.bits_per_dimension.value == pytest.approx(figures.nll.value / (64 * 0.6931471805599453))
    assert 0 < figures.squared_error.value < 0.3
    assert measure(trained, num_samples=20, limit=50).figures == figures


def test_the_model_is_built_without_the_corpus(run: Run, tmp_path: Path) -> None:
    trained = open_trained_images(run)
    assert trained.form.shape == (1, 8, 8)
    assert trained.form.class_names == tuple("0123456789")


@pytest.mark.parametrize("content", ["", "{}", '{"channels": 0}', '{"channels": 1, "height": 1e9}', "[" * 100_000])
def test_a_damaged_form_is_named(content: str, conditional: TrainedImages, tmp_path: Path) -> None:
    run = Run(tmp_path)
    for name in ("config.yaml", "env.json"):
        (tmp_path / name).write_bytes((conditional.run.path / name).read_bytes())
    (tmp_path / FORM).write_text(content, "utf-8")
    with pytest.raises(RunError, match=f"{FORM}: the form of its images cannot be read"):
        open_trained_images(run)


def test_samples_of_a_class_and_of_all_classes_in_turn(conditional: TrainedImages) -> None:
    images, labels = generation.sample(conditional, 12, seed=1)
    assert labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert images.shape == (12, 1, 8, 8)
    assert generation.sample(conditional, 4, seed=1, label=7)[1].tolist() == [7, 7, 7, 7]
    with pytest.raises(ValueError, match=r"--label 10: no such class; there are 0 \(0\), "):
        generation.sample(conditional, 1, label=10)


def test_an_interpolation_ends_at_the_reconstructions(conditional: TrainedImages) -> None:
    same_class = [index for index, label in enumerate(conditional.splits.test.labels) if label == 3][:2]
    ends = generation.images_of_test(conditional, same_class)
    walked = generation.interpolate(conditional, ends, 5, "linear")
    found = generation.reconstruct(conditional, ends)
    torch.testing.assert_close(walked[[0, -1]], found, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sample", "--label", "12"), "--label 12: no such class"),
        (("sample", "--top-k", "3"), "--top-k is not for a run of the image side"),
        (("reconstruct", "twelve"), "'twelve': of an image run, give numbers of test images"),
        (("reconstruct", "300"), "image 300: the test split has images 0 to 299"),
        (("interpolate", "1", "-1"), "No such option"),
        (("measure", "--split", "dev"), "'--split': 'dev' is not one of 'train', 'valid', 'test'"),
        (("measure", "--samples", "0"), "0 is not in the range"),
    ],
)
def test_a_wrong_call_is_explained_in_a_line(
    arguments: tuple[str, ...], message: str, conditional: TrainedImages
) -> None:
    verb, *rest = arguments
    done = textvae(verb, conditional.run.path, *rest)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


def test_pictures_are_written_where_they_are_asked_for(conditional: TrainedImages, tmp_path: Path) -> None:
    done = textvae("sample", conditional.run.path, "-n", "20", "--out", tmp_path / "grid.png", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["picture"] == str(tmp_path / "grid.png")
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
    done = textvae("interpolate", conditional.run.path, "0", "5", "--path", "slerp")
    assert done.returncode == 0, done.stderr
    assert (conditional.run.path / "samples" / "interpolation.png").is_file()
