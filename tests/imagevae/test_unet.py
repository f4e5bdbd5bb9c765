"""Structured prediction with U-Nets, of masks from photographs: likelihoods, maps, and who reads what."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli

from corpora.images import ImageBatch
from imagevae.form import ImageForm
from imagevae.models import StructuredBaseline, StructuredBaselineConfig, StructuredCvae, StructuredCvaeConfig
from imagevae.networks import ConvConfig, MlpConfig
from imagevae.side import images_at_once, rows_at_once
from imagevae.structured import draws, predict
from imagevae.unet import UnetConfig
from latent.bound import HybridObjective
from latent.measures import FromPrior, importance_weighted

CPU = torch.device("cpu")
FORM = ImageForm(channels=1, height=2, width=3, class_names=(), context_channels=3)
SMALL = UnetConfig(channels=(4,))


def every_mask() -> ImageBatch:
    """The 2⁶ masks of one photograph."""
    torch.manual_seed(1)
    pixels = torch.tensor(list(itertools.product((0.0, 1.0), repeat=6)), dtype=torch.float64).view(64, 1, 2, 3)
    photograph = torch.rand(1, 3, 2, 3, dtype=torch.float64)
    return ImageBatch(pixels=pixels, indices=torch.arange(64), context=photograph.expand(64, -1, -1, -1))


def photographs(form: ImageForm, num_images: int = 4) -> ImageBatch:
    torch.manual_seed(2)
    pixels = (torch.rand(num_images, *form.shape, dtype=torch.float64) > 0.5).double()
    context = torch.rand(num_images, form.context_channels, form.height, form.width, dtype=torch.float64)
    return ImageBatch(pixels=pixels, indices=torch.arange(num_images), context=context)


def cvae(form: ImageForm = FORM, latent_size: int = 2, network: UnetConfig = SMALL, **settings: bool) -> StructuredCvae:
    torch.manual_seed(0)
    return StructuredCvaeConfig(latent_size=latent_size, network=network, **settings).build(form).double().eval()


def baseline(form: ImageForm = FORM) -> StructuredBaseline:
    torch.manual_seed(0)
    return StructuredBaselineConfig(network=SMALL).build(form).double().eval()


def test_every_mask_together_has_probability_one() -> None:
    batch, one = every_mask(), torch.zeros(3, dtype=torch.float64)
    z = 3 * torch.randn(3, 1, 2, dtype=torch.float64).expand(-1, 64, -1)
    by_z = cvae().log_likelihood(z, batch)
    torch.testing.assert_close(by_z.logsumexp(1), one)
    assert (by_z[0] != by_z[1]).all()
    torch.testing.assert_close(baseline().log_likelihood(z[..., :0], batch).logsumexp(1), one)


def test_the_likelihood_is_of_all_pixels() -> None:
    model, batch = baseline(), every_mask()
    expected = Bernoulli(logits=model.baseline(batch.context).logits).log_prob(batch.pixels.flatten(1)).sum(1)
    torch.testing.assert_close(model(batch).elbo, expected)


def test_logits_are_the_baseline_s_and_what_the_maps_and_z_add() -> None:
    model, batch = cvae(), every_mask().take(torch.arange(5))
    z = torch.randn(2, 5, 2, dtype=torch.float64)
    said = model.baseline(batch.context)
    for drawn, outputs in zip(z, model.outputs(z, batch), strict=True):
        torch.testing.assert_close(outputs, said.logits + model.decoder(drawn, *said.maps))


def test_z_is_a_map_of_the_paper_s_size() -> None:
    form = ImageForm(channels=1, height=128, width=128, class_names=(), context_channels=3)
    model = StructuredCvaeConfig(latent_size=2048, network=UnetConfig(channels=(8, 8, 8, 8))).build(form)
    assert model.decoder.unflatten.unflattened_size == (32, 8, 8)
    batch = photographs(form, 1)
    assert model.prior(batch).event_shape == model.posterior(batch).event_shape == (2048,)


def test_z_reaches_every_scale_by_a_way_of_its_own() -> None:
    form = ImageForm(channels=1, height=9, width=8, class_names=(), context_channels=3)
    batch = photographs(form)
    z = torch.randn(2, len(batch), 18, dtype=torch.float64)
    alone, every = (cvae(form, 18, UnetConfig(channels=(3, 4, 6), latents_at=at)) for at in ("coarsest", "every"))
    shared = every.load_state_dict(alone.state_dict(), strict=False)
    assert shared.missing_keys == [f"decoder.embeddings.{n}.{part}" for n in (0, 1) for part in ("weight", "bias")]
    with torch.no_grad():
        every.decoder.embeddings[0].weight.zero_()
        for embedding in every.decoder.embeddings:
            embedding.bias.zero_()
        assert not torch.allclose(every.outputs(z, batch), alone.outputs(z, batch))
        for model in (alone, every):  # the way by the coarsest map is closed
            model.decoder.embedding.weight.zero_()
        torch.testing.assert_close(alone.outputs(z, batch), alone.outputs(-z, batch))
        assert not torch.allclose(every.outputs(z, batch), every.outputs(-z, batch))
        every.decoder.embeddings[1].weight.zero_()
        torch.testing.assert_close(every.outputs(z, batch), alone.outputs(z, batch))


@pytest.mark.parametrize(("height", "width", "latent_size"), [(8, 8, 12), (9, 6, 18), (5, 7, 12)])
def test_images_of_any_size(height: int, width: int, latent_size: int) -> None:
    form = ImageForm(channels=2, height=height, width=width, class_names=(), context_channels=3)
    model, batch = cvae(form, latent_size, UnetConfig(channels=(4, 6))), photographs(form)
    assert model(batch, 3).log_weight.shape == (3, 4)
    assert model.outputs(torch.zeros(2, 4, latent_size), batch).shape == (2, 4, form.num_pixels)


@pytest.mark.parametrize(
    ("latent_size", "channels", "message"),
    [
        (30, (4, 6), r"model\.latent_size: a map of z has 2×2 places.*multiple of 4, such as 128"),
        (32, (4, 4, 4, 4), r"model\.network\.channels: an image of 8×8 cannot be halved 4 times; give at most 3"),
    ],
)
def test_what_cannot_be_a_map_is_refused(latent_size: int, channels: tuple[int, ...], message: str) -> None:
    form = replace(FORM, height=8, width=8)
    with pytest.raises(ValueError, match=message):
        cvae(form, latent_size, UnetConfig(channels=channels))


@pytest.mark.parametrize(
    "network", [SMALL, MlpConfig(hidden_sizes=(7,)), ConvConfig(channels=(4,), hidden_size=5)], ids=lambda n: n.kind
)
def test_the_prior_reads_x_and_the_recognition_network_y_too(network: UnetConfig) -> None:
    model, batch = cvae(network=network), every_mask()
    other = replace(batch, context=1 - batch.context)
    assert len(model.prior(batch).mean.unique(dim=0)) == 1
    assert len(model.posterior(batch).mean.unique(dim=0)) == 64
    assert (model.prior(batch).mean != model.prior(other).mean).all()
    assert (model.posterior(batch).mean != model.posterior(other).mean).all()


def test_predictions_never_see_the_mask_nor_the_recognition_network() -> None:
    model, batch = cvae(), photographs(FORM)
    found = [*draws(model, batch, 3), predict(model, batch, 5).averaged, predict(model, batch, 5).at_prior_mean]
    with torch.no_grad():
        for parameter in model.recognition.parameters():
            parameter.fill_(math.nan)
    assert torch.isfinite(importance_weighted(FromPrior(model), [batch], CPU, 5).nll).all()
    blind = replace(batch, pixels=torch.full_like(batch.pixels, math.nan))
    for one, other in zip(
        [*draws(model, blind, 3), predict(model, blind, 5).averaged, predict(model, blind, 5).at_prior_mean],
        found,
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=0, rtol=0)


def gradients(model: StructuredCvae, loss: Tensor) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {name: each for name, each in zip(parameters, found, strict=True) if each is not None}


@pytest.mark.parametrize("freeze", [False, True])
def test_the_baseline_reads_x_once_and_its_gradient_is_whole(freeze: bool) -> None:
    model, batch, calls = cvae(freeze_baseline=freeze).train(), photographs(FORM), []
    model.baseline.register_forward_hook(lambda *_: calls.append(1))
    torch.manual_seed(3)
    once = gradients(model, HybridObjective()(model(batch, 2, from_prior=True), 0).value)
    assert len(calls) == 1
    torch.manual_seed(3)
    q, p = model.posterior(batch), model.prior(batch)
    z = q.rsample((2,))
    kl = torch.distributions.kl_divergence(q, p)
    bound = model.log_likelihood(z, batch).mean(0) - kl
    of_prior = model.log_likelihood(p.rsample((2,)), batch).mean(0)
    assert len(calls) == 4
    each_time = gradients(model, -(bound + of_prior).mean() / 2)
    assert once.keys() == each_time.keys()
    assert any(name.startswith("baseline.") for name in once) is not freeze
    for name, gradient in once.items():
        torch.testing.assert_close(gradient, each_time[name])


def test_without_a_pass_going_on_the_baseline_is_asked_anew() -> None:
    model, batch = cvae(), photographs(FORM)
    before = model(batch).log_likelihood_from_prior, model.prior(batch).mean
    with torch.no_grad():
        for parameter in model.baseline.parameters():
            parameter.add_(1.0)
    assert (model.prior(batch).mean != before[1]).any()


def test_large_images_are_read_in_small_batches() -> None:
    small, large = replace(FORM, height=28, width=28), replace(FORM, height=128, width=128)
    assert (images_at_once(small), rows_at_once(small)) == (500, 1024)
    assert (images_at_once(large), rows_at_once(large)) == (23, 256)
