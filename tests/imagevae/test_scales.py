"""y at coarser scales: a term of the training loss with closed forms, and of nothing else."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from tiny import rows, start_image_run, tiny_image_recipe
from torch import Tensor
from torch.distributions import Bernoulli

import cli
from corpora.images import ImageBatch
from imagevae.form import ImageForm
from imagevae.models import StructuredCvae, StructuredCvaeConfig
from imagevae.networks import MlpConfig
from imagevae.scales import log_likelihood_of_reduced, reduced
from imagevae.structured import draws
from imagevae.unet import UnetConfig
from latent.bound import ElboObjective, HybridObjective

FORM = ImageForm(channels=1, height=8, width=12, class_names=(), context_channels=3)
NUM_SQUARES = 4 * 6 + 2 * 3  # at ½ and at ¼


def masks(form: ImageForm = FORM, num_images: int = 5) -> ImageBatch:
    torch.manual_seed(2)
    pixels = (torch.rand(num_images, *form.shape, dtype=torch.float64) > 0.6).double()
    context = torch.rand(num_images, form.context_channels, form.height, form.width, dtype=torch.float64)
    return ImageBatch(pixels=pixels, indices=torch.arange(num_images), context=context)


def parts(num_images: int = 5) -> ImageBatch:
    """The right of each image is to be predicted from the left; what the pixels have there is never read."""
    batch = masks(replace(FORM, context_channels=1), num_images)
    is_scored = torch.zeros(FORM.shape, dtype=torch.bool)
    is_scored[..., 5:] = True
    return replace(batch, scored=is_scored, pixels=torch.where(is_scored, batch.pixels, math.nan))


def cvae(coarser_scales: int = 2, *, recognition: bool = True, freeze_baseline: bool = False) -> StructuredCvae:
    torch.manual_seed(0)
    config = StructuredCvaeConfig(
        latent_size=12,
        network=UnetConfig(channels=(4, 6)),
        coarser_scales=coarser_scales,
        recognition=recognition,
        freeze_baseline=freeze_baseline,
    )
    return config.build(FORM).double().train()


def test_a_reduced_mask_has_the_mask_s_mean_at_every_scale() -> None:
    images = masks().pixels
    for scale in reduced(images, 2).split([24, 6], 1):
        torch.testing.assert_close(scale.mean(1), images.flatten(1).mean(1))


def test_squares_are_read_one_by_one_and_cut_at_the_border() -> None:
    images = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    expected = [
        images[:, :, top : top + side, left : left + side].mean((2, 3))
        for side in (2, 4)
        for top in range(0, 5, side)
        for left in range(0, 7, side)
    ]
    found = torch.cat([each.unflatten(1, (3, -1)) for each in reduced(images, 2).split([3 * 12, 3 * 4], 1)], 2)
    torch.testing.assert_close(found, torch.stack(expected, 2))


@pytest.mark.parametrize("logit", [-1.3, 0.0, 2.0])
def test_a_constant_logit_has_a_closed_form(logit: float) -> None:
    """c Σ y − n ln(1 + eᶜ) over the pixels that are scored, at each scale over the number of a square's pixels."""
    logits = torch.full((3, 5, NUM_SQUARES), logit, dtype=torch.float64)
    for batch in (masks(), parts()):
        y = batch.pixels if batch.scored is None else batch.pixels[..., batch.scored[0, 0]]
        y = y.flatten(1)
        expected = (logit * y.sum(1) - y.shape[1] * math.log1p(math.exp(logit))) * (1 / 4 + 1 / 16)
        torch.testing.assert_close(log_likelihood_of_reduced(logits, batch, 2), expected.expand(3, -1))


def test_it_is_the_mean_over_each_square_of_what_its_logit_says_of_the_pixels() -> None:
    batch, logits = masks(), torch.randn(2, 5, NUM_SQUARES, dtype=torch.float64)
    expected = torch.zeros(2, 5, dtype=torch.float64)
    for side, scale in zip((2, 4), logits.split([24, 6], 2), strict=True):
        enlarged = scale.unflatten(2, (8 // side, 12 // side)).repeat_interleave(side, 2).repeat_interleave(side, 3)
        expected += Bernoulli(logits=enlarged).log_prob(batch.pixels[:, 0]).sum((2, 3)) / side**2
    torch.testing.assert_close(log_likelihood_of_reduced(logits, batch, 2), expected)


def test_at_first_the_baseline_is_what_is_reduced() -> None:
    """With nothing from the decoder's maps a square's logit is the mean of the baseline's there."""
    model, batch = cvae(), masks()
    with torch.no_grad():
        for parameter in model.decoder.coarser.parameters():
            parameter.zero_()
    logits = model.baseline(batch.context).logits.unflatten(1, (1, 8, 12))
    means = torch.cat([F.interpolate(logits, scale_factor=share, mode="area").flatten(1) for share in (0.5, 0.25)], 1)
    expected = log_likelihood_of_reduced(means.unsqueeze(0), batch, 2)
    torch.testing.assert_close(model(batch, 2).auxiliary, expected.expand(2, -1))


def test_the_bound_and_the_weights_are_those_of_a_model_without_it() -> None:
    plain, scaled, batch = cvae(0), cvae(2), masks()
    for name, parameter in plain.named_parameters():
        assert torch.equal(scaled.state_dict()[name], parameter), name
    assert len(scaled.state_dict()) == len(plain.state_dict()) + 4  # two convolutions
    found = []
    for model in (plain, scaled):
        torch.manual_seed(4)
        found.append(model(batch, 3, from_prior=True))
    assert found[0].auxiliary is None
    assert found[0].auxiliary_from_prior is None
    assert found[1].auxiliary.shape == found[1].auxiliary_from_prior.shape == (3, 5)
    for name in ("log_likelihood", "log_likelihood_from_prior", "log_weight", "kl", "elbo"):
        assert torch.equal(getattr(found[1], name), getattr(found[0], name)), name
    torch.testing.assert_close(scaled.log_likelihood(found[1].z, batch), found[1].log_likelihood)


def test_it_is_there_in_training_alone_and_predictions_have_no_part_in_it() -> None:
    model, batch = cvae(), masks()
    z = torch.randn(2, 5, 12, dtype=torch.float64)
    before = model.outputs(z, batch), draws(model, batch, 3)
    assert model.training
    assert model.eval()(batch, from_prior=True).auxiliary is None
    with torch.no_grad():
        for parameter in model.decoder.coarser.parameters():
            parameter.fill_(math.nan)
    for found, expected in zip((model.outputs(z, batch), draws(model, batch, 3)), before, strict=True):
        torch.testing.assert_close(found, expected, atol=0, rtol=0)
    assert torch.isfinite(model(batch).elbo).all()


@pytest.mark.parametrize(
    ("objective", "recognition"),
    [(ElboObjective(), True), (HybridObjective(), True), (HybridObjective(bound_share=0.0), False)],
)
def test_it_trains_the_decoder_at_every_scale(objective: ElboObjective | HybridObjective, recognition: bool) -> None:
    model, batch = cvae(recognition=recognition), masks()
    torch.manual_seed(3)
    objective(model(batch, from_prior=objective.from_prior), 0).value.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_frozen_baseline_stays_and_the_decoder_is_run_once_for_all_scales() -> None:
    model, batch, calls = cvae(freeze_baseline=True), masks(), []
    model.decoder.register_forward_hook(lambda *_: calls.append(1))
    terms = model(batch)
    (-terms.auxiliary.mean()).backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert not any(name.startswith("baseline.") for name in trained)
    assert {"decoder.coarser.levels.0.weight", "decoder.coarser.levels.1.weight", "decoder.embedding.weight"} < trained
    assert len(calls) == 1


def of_metrics(name: str, run: list[dict[str, float]]) -> Tensor:
    return torch.tensor([row[name] for row in run if "loss" in row and row["kl_weight"] > 0])


def test_a_run_trains_by_it_and_validates_without(tmp_path: Path) -> None:
    """Its weight is the objective's; the first step, before any weight has moved, has the bound of a run without it."""
    settings = ("update.steps=5", "train.log_steps=1", "train.steps=10", "objective.kl_weight={kind: constant}")
    found = {}
    for weight in (None, 0.0, 0.5):
        scaled = () if weight is None else ("model.coarser_scales=2", f"objective.auxiliary_weight={weight}")
        run = start_image_run(tiny_image_recipe("horses_cvae", *settings, *scaled), tmp_path / str(weight))
        found[weight] = rows(run)
    plain, half = ({name: of_metrics(name, found[weight]) for name in ("loss", "elbo")} for weight in (0.0, 0.5))
    torch.testing.assert_close(plain["loss"], -plain["elbo"])
    torch.testing.assert_close(plain["elbo"], of_metrics("elbo", found[None]))
    torch.testing.assert_close(half["loss"], -half["elbo"] + 0.5 * of_metrics("auxiliary", found[0.5]))
    torch.testing.assert_close(half["elbo"][0], plain["elbo"][0])
    assert (half["elbo"][1:] != plain["elbo"][1:]).all()


def test_scales_without_a_map_are_refused() -> None:
    network = UnetConfig(channels=(4, 6))
    with pytest.raises(
        ValueError, match=r"model\.coarser_scales: 3 scales need as many.*channels has 2; set at most 2"
    ):
        StructuredCvaeConfig(latent_size=12, network=network, coarser_scales=3).build(FORM)
    with pytest.raises(ValueError, match=r"model\.coarser_scales: this network has no maps.*network\.kind=unet or"):
        StructuredCvaeConfig(network=MlpConfig(hidden_sizes=(7,)), coarser_scales=1).build(FORM)


def test_an_objective_without_a_weight_for_it_is_found_before_a_run() -> None:
    settings = ("corpus.path=nowhere", "model.coarser_scales=2", "objective={kind: iwae, num_samples: 2}")
    done = CliRunner().invoke(cli.cli, ["train", "horses_cvae", "--dry-run", *(f"--set={each}" for each in settings)])
    assert "model.coarser_scales: objective.kind iwae has no auxiliary_weight" in str(done.exception)
