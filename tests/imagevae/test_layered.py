"""Two layers and a mask: the mixture's likelihood against sums by hand, and masks that training never reads."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageOps
from scipy.integrate import quad
from tiny import checkpoints, start_image_run, tiny_image_recipe
from torch import Tensor

import cli
from corpora.images import ImageBatch
from imagevae import verbs
from imagevae.form import ImageForm
from imagevae.layer_measures import layer_masks, layer_overlap
from imagevae.layers import LayeredLikelihood, centred_logits, cosines
from imagevae.likelihoods import LEAST_LOG_SCALE
from imagevae.measuring import measure
from imagevae.models import LayeredVaeConfig
from imagevae.networks import MlpConfig
from imagevae.session import TrainedImages, open_trained_images
from imagevae.side import IMAGE
from latent.training import Run

FORM = ImageForm(channels=3, height=4, width=5, class_names=())
GREY = ImageForm(channels=1, height=1, width=1, class_names=())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return start_image_run(tiny_image_recipe("horses_unsupervised"), tmp_path_factory.mktemp("layers") / "run")


@pytest.fixture(scope="module")
def trained(run: Run) -> TrainedImages:
    return open_trained_images(run)


def outputs(num: int, form: ImageForm = FORM) -> tuple[LayeredLikelihood, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    likelihood = LayeredLikelihood(form).double()
    a = torch.randn(2, num, likelihood.num_outputs, generator=generator, dtype=torch.float64)
    return likelihood, a, torch.rand(num, form.num_pixels, generator=generator, dtype=torch.float64)


def by_hand(likelihood: LayeredLikelihood, a: Tensor, x: Tensor) -> tuple[float, list[float]]:
    """log p(x|a) of one image, and p(foreground|x, a) of each place, by densities that are multiplied."""
    said, places = likelihood.layers(a), x.unflatten(0, (likelihood.num_channels, -1))
    total, assigned = 0.0, []
    for place in range(places.shape[1]):
        x_i = likelihood.turn.double() @ places[:, place]
        density = [
            math.prod(
                math.exp(-0.5 * float((x_i[c] - layer[c, place]) / said.log_scales[number, c].exp()) ** 2)
                / math.sqrt(2 * math.pi * float(said.log_scales[number, c].exp()) ** 2)
                for c in range(len(x_i))
            )
            for number, layer in enumerate((said.background, said.foreground))
        ]
        share = 1 / (1 + math.exp(-float(said.mask_logits[place])))
        both = (1 - share) * density[0] + share * density[1]
        total += math.log(both)
        assigned.append(share * density[1] / both)
    return total, assigned


def test_the_likelihood_is_the_mixture_place_by_place() -> None:
    likelihood, a, x = outputs(3)
    found, assigned = likelihood.log_prob(a, x), likelihood.assigned(a, x)
    for draw in range(2):
        for image in range(3):
            total, of_places = by_hand(likelihood, a[draw, image], x[image])
            assert float(found[draw, image]) == pytest.approx(total, rel=1e-9)
            assert assigned[draw, image].tolist() == pytest.approx(of_places, rel=1e-7)


def test_the_density_integrates_to_one() -> None:
    likelihood, a, _ = outputs(1, GREY)

    def density(value: float) -> float:
        return math.exp(float(likelihood.log_prob(a[:1], torch.tensor([[value]], dtype=torch.float64))))

    assert quad(density, -40, 40, limit=200)[0] == pytest.approx(1, abs=1e-6)


def test_mean_and_draws_agree() -> None:
    likelihood, a, _ = outputs(1)
    torch.manual_seed(0)
    a[..., -6:] = -2.0
    drawn = likelihood.sample(a[0].expand(20_000, -1))
    error = drawn.std(0) / math.sqrt(20_000)
    assert ((drawn.mean(0) - likelihood.mean(a[0])[0]).abs() < 5 * error).all()


def test_a_mask_of_one_layer_leaves_that_layer_alone() -> None:
    likelihood, a, x = outputs(2)
    start = 2 * FORM.num_pixels
    other = a.clone()
    for each in (a, other):
        each[..., start : start + 20] = -1e4
    other[..., FORM.num_pixels : start] += 1.0  # the foreground
    torch.testing.assert_close(likelihood.log_prob(other, x), likelihood.log_prob(a, x))
    torch.testing.assert_close(likelihood.mean(a[0]), likelihood.pictures(a[0])[0])


def test_a_scale_has_a_floor_and_extreme_values_are_finite() -> None:
    likelihood, a, x = outputs(2)
    a[..., -6:] = -1e3
    assert (likelihood.layers(a).log_scales >= LEAST_LOG_SCALE).all()
    assert torch.isfinite(likelihood.log_prob(a, x)).all()


def test_the_waves_are_even_and_the_ellipse_covers_its_share() -> None:
    basis = cosines(12, 5).double()
    torch.testing.assert_close(basis.T @ basis / 12, torch.eye(5, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(basis[:, 0], torch.ones(12, dtype=torch.float64), atol=1e-6, rtol=0)
    form = ImageForm(channels=1, height=100, width=80, class_names=())
    logits = centred_logits(form, 0.25, 3.0)[0]
    assert float((logits > 0).double().mean()) == pytest.approx(0.25, abs=0.005)
    torch.testing.assert_close(logits, logits.flip(0, 1))


def test_layers_begin_at_the_waves_of_the_mean_image() -> None:
    """A mean that has no more waves than a layer is that layer's start; the mask starts within reach of the ellipse."""
    config = LayeredVaeConfig(background_waves=2, foreground_waves=2, network=MlpConfig(hidden_sizes=(6,)), reach=0.5)
    model = config.build(FORM)
    waves = cosines(4, 2)[:, 1:], cosines(5, 2)[:, 1:]
    mean = (0.5 + 0.1 * torch.arange(1.0, 4.0).reshape(3, 1, 1) * waves[0] * waves[1].T).double().numpy()
    model.start_at(mean)
    for decoder in (model.background_decoder, model.foreground_decoder):
        torch.nn.init.zeros_(decoder.output.weight)
    batch = ImageBatch(pixels=torch.rand(2, *FORM.shape), indices=torch.arange(2))
    a = model.outputs(torch.randn(1, 2, model.latent_size), batch)[0]
    expected = torch.from_numpy(mean).float().flatten().expand(2, -1)
    torch.testing.assert_close(model.likelihood.mean(a), expected, atol=1e-5, rtol=0)
    moved = model.likelihood.layers(a).mask_logits - model.ellipse
    assert 0 < float(moved.detach().abs().max()) <= 0.5


def test_each_part_of_z_moves_its_own_part_of_the_picture() -> None:
    model = LayeredVaeConfig(network=MlpConfig(hidden_sizes=(6,))).build(FORM)
    batch = ImageBatch(pixels=torch.rand(1, *FORM.shape), indices=torch.arange(1))
    z = torch.randn(1, 1, model.latent_size)
    before = model.likelihood.layers(model.outputs(z, batch))
    names = ("background", "foreground", "mask_logits")
    starts = (0, model.part_sizes[0], sum(model.part_sizes[:2]))
    for name, start in zip(names, starts, strict=True):
        changed = z.clone()
        changed[..., start] += 1
        after = model.likelihood.layers(model.outputs(changed, batch))
        for other in names:
            is_same = bool((getattr(after, other) == getattr(before, other)).all())
            assert is_same is (other != name), (name, other)


def test_training_never_reads_a_mask(run: Run, tmp_path: Path) -> None:
    """The splits of training hold none, and masks that are all turned round give the same weights, bit for bit."""
    recipe = IMAGE.load_recipe(run.config_path)
    material = IMAGE.read(recipe, None)
    photograph = material.splits.train.batch([0])
    assert photograph.pixels.shape == (1, 3, 16, 16)
    assert photograph.context is None
    folder = tmp_path / "pairs"
    write_with_other_masks(recipe.corpus.path, folder)
    other = start_image_run(replace(recipe, corpus=replace(recipe.corpus, path=folder)), tmp_path / "run")
    assert checkpoints(other) == checkpoints(run)
    figures = [measure(open_trained_images(each), num_samples=2).figures for each in (run, other)]
    assert figures[0].nll == figures[1].nll
    assert figures[0].layers is not None
    assert figures[0].layers.assigned != figures[1].layers.assigned  # scored by masks all the same


def write_with_other_masks(source: Path, target: Path) -> None:
    """The same photographs, with masks that have foreground where they had none."""
    for part in ("images", "masks"):
        (target / part).mkdir(parents=True)
        for path in sorted((source / part).iterdir()):
            if part == "images":
                (target / part / path.name).write_bytes(path.read_bytes())
            else:
                ImageOps.invert(Image.open(path).convert("L")).save(target / part / f"{path.stem}.png")


def test_overlaps_by_every_assignment() -> None:
    truth = torch.tensor([[True, True, False, False], [True, False, False, False]])
    masks = torch.tensor([[True, True, False, False], [False, True, True, True]])
    figures, columns = layer_overlap(masks, truth)
    assert columns["as_it_is"].tolist() == [1.0, 0.0]
    assert columns["better_of_set"].tolist() == [1.0, 0.0]  # exchanged is 0 and 1: a tie stays as it is
    assert columns["better_of_each"].tolist() == [1.0, 1.0]
    assert figures.better_of_each.value == 1.0
    assert layer_overlap(~truth, truth)[0].better_of_set.value == 1.0


def test_a_run_is_measured_with_its_masks_and_drawn(trained: TrainedImages, tmp_path: Path) -> None:
    found = measure(trained, num_samples=3)
    figures = found.figures
    assert (figures.likelihood, figures.binarisation, figures.conditional) == ("layers", "grey", None)
    assert figures.layers is not None
    assert np.isfinite([figures.nll.value, figures.layers.mask.as_it_is.value]).all()
    assert len(found.per_example["layer_iou_assigned_as_it_is"]) == 4
    limited = measure(trained, num_samples=2, limit=2).figures
    assert limited.layers is not None
    chosen = torch.randperm(4, generator=torch.Generator().manual_seed(0))[:2]
    columns = [found.per_example["layer_iou_mask_as_it_is"][chosen].mean(), limited.layers.mask.as_it_is.value]
    assert columns[0] == pytest.approx(columns[1], abs=0.05)  # other draws of the same images
    shown = verbs.sample(trained, num_samples=3, seed=0, out=tmp_path / "layers.png", label=None)
    assert shown.value["images"] == [0, 1, 2]
    assert (tmp_path / "layers.png").stat().st_size > 1000


def test_masks_are_predicted_without_the_true_ones(trained: TrainedImages) -> None:
    batch = trained.splits.test.batch(range(3))
    found = layer_masks(trained.model, batch, num_draws=2)
    assert found.assigned.shape == (3, 256)
    assert float(found.assigned.min()) >= 0
    assert float(found.assigned.max()) <= 1 + 1e-6


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.foreground_share=1.0", "model.foreground_share: Input should be less than 1"),
        (
            "corpus={kind: digits_quadrants, num_quadrants: 1}",
            "layered_vae is a density of levels, and corpus.kind dig",
        ),
        ("corpus={kind: digits}", "set corpus.kind=masks, or corpus.binarisation=grey where it can be"),
    ],
)
def test_what_does_not_fit_is_found_by_the_dry_run(override: str, message: str) -> None:
    done = CliRunner().invoke(cli.cli, ["train", "horses_unsupervised", "--dry-run", f"--set={override}"])
    assert message in f"{done.exception} {done.output}"
