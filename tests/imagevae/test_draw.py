"""DRAW: its filters against loops over pixels, its bound against quadrature, its posterior's moments and densities."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_image_models import SMALL_DRAW, built, images
from test_pixelvae import batch_of, of_size
from tiny import start_image_run, tiny_image_recipe
from torch import Tensor

from imagevae import generation
from imagevae.attention import filters
from imagevae.measuring import measure
from imagevae.models import Draw, DrawConfig
from imagevae.models.draw import AttentionConfig
from imagevae.session import open_trained_images
from latent.distributions import pairwise_log_prob

PLAIN = DrawConfig(**SMALL_DRAW)
WINDOWS = replace(PLAIN, attention=AttentionConfig(read_size=3, write_size=4))
BOTH = pytest.mark.parametrize("config", [PLAIN, WINDOWS], ids=["whole", "attention"])


def wide(config: DrawConfig, form: Any) -> Draw:
    """A model whose steps differ."""
    model = built(config, form).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    return model


def parameters(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def filters_by_loops(p: list[float], num_filters: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """F_Y and F_X of equations 19 to 26, i and a from 1 on."""
    stride = (max(height, width) - 1) / (num_filters - 1) * math.exp(p[3])
    found = []
    for g, size in (((height + 1) / 2 * (p[1] + 1), height), ((width + 1) / 2 * (p[0] + 1), width)):
        bank = np.zeros((num_filters, size))
        for i in range(1, num_filters + 1):
            for a in range(1, size + 1):
                bank[i - 1, a - 1] = math.exp(
                    -((a - g - (i - num_filters / 2 - 0.5) * stride) ** 2) / 2 / math.exp(p[2])
                )
        found.append(bank / bank.sum(1, keepdims=True))
    return found[0], found[1]


@pytest.mark.parametrize(("height", "width", "num_filters"), [(7, 5, 3), (4, 9, 2), (6, 6, 6)])
def test_reading_and_writing_are_the_paper_s(height: int, width: int, num_filters: int) -> None:
    p = [0.2, -0.4, 0.5, -0.7, 0.3]
    found = filters(parameters(*p), num_filters, height, width)
    rows, columns = filters_by_loops(p, num_filters, height, width)
    image, window = torch.randn(1, 2, height, width).double(), torch.randn(1, 2, num_filters, num_filters).double()
    for channel in range(2):
        expected = math.exp(0.3) * rows @ image[0, channel].numpy() @ columns.T
        torch.testing.assert_close(found.read(image)[0, channel], torch.from_numpy(expected))
        expected = math.exp(-0.3) * rows.T @ window[0, channel].numpy() @ columns
        torch.testing.assert_close(found.write(window)[0, channel], torch.from_numpy(expected))


def test_a_window_of_the_image_s_size_with_narrow_filters_is_the_image() -> None:
    found = filters(parameters(0, 0, -8, 0, 0), 9, 9, 9)
    image = torch.randn(1, 1, 9, 9, dtype=torch.float64)
    torch.testing.assert_close(found.read(image), image)
    torch.testing.assert_close(found.write(image), image)


@pytest.mark.parametrize("stride", [1.0, 2.0, 6.75])
@pytest.mark.parametrize("num_filters", [1, 4, 5])
def test_a_window_in_the_middle_is_in_the_middle(stride: float, num_filters: int) -> None:
    """What an index from 0 without its shift would move by δ − 1."""
    log_stride = math.log(stride * max(1, num_filters - 1) / 27)
    found = filters(parameters(0, 0, 0.5, log_stride, 0), num_filters, 20, 28)
    for bank, centre in ((found.rows, 10.5), (found.columns, 14.5)):
        places = (bank * torch.arange(1, bank.shape[2] + 1)).sum(2)
        assert places.mean().item() == pytest.approx(centre, abs=1e-9)


@pytest.mark.parametrize("p", [(0, 0, 0, 0, 0), (30, -30, -6, 0, 0), (0.5, 2, -20, 3, 1), (0, 0, 20, -9, 0)])
def test_every_filter_sums_to_one_with_finite_gradients(p: tuple[float, ...]) -> None:
    given = parameters(*p).requires_grad_()
    found = filters(given, 5, 28, 28)
    for bank in (found.rows, found.columns):
        torch.testing.assert_close(bank.sum(2), torch.ones(1, 5, dtype=torch.float64))
    found.read(torch.randn(1, 1, 28, 28, dtype=torch.float64)).square().sum().backward()
    assert torch.isfinite(given.grad).all()


def test_gradients_reach_all_five_numbers_of_both_windows() -> None:
    model = wide(WINDOWS, of_size(8, 8))
    (-model(images(WINDOWS)).elbo).mean().backward()
    reader, writer = model.hand.encoder.reader.place, model.hand.decoder.writer.place
    assert reader.weight is not writer.weight
    for place in (reader, writer):
        assert place.bias.grad.shape == (5,)
        assert (place.bias.grad != 0).all()


@BOTH
def test_a_posterior_that_says_nothing_has_no_kl_and_a_noise_for_each_step(config: DrawConfig) -> None:
    model, batch = built(config), images(config)
    for parameter in model.hand.encoder.head.parameters():
        torch.nn.init.zeros_(parameter)
    terms = model(batch, 4)
    assert not terms.kl.any()
    torch.testing.assert_close(terms.log_posterior, terms.log_prior)
    steps = terms.z.detach().view(4, 7, 3, 2).unbind(2)
    assert (steps[0] != steps[1]).all()
    assert (steps[1] != steps[2]).all()


def test_a_single_step_without_attention_is_a_vae_of_the_same_networks() -> None:
    config = replace(PLAIN, num_steps=1, latent_size=4)
    model, batch = wide(config, of_size(8, 8)), images(config)
    encoder, decoder = model.hand.encoder, model.hand.decoder
    x = batch.pixels.double().flatten(1)
    nothing = x.new_zeros(7, 9)
    lacking = x - torch.sigmoid(decoder.start)
    h, _ = encoder.cell(torch.cat([x, lacking, nothing], 1), (nothing, nothing))
    q = encoder.head(h)
    terms = model(batch, 3)
    h, _ = decoder.cell(terms.z.flatten(0, 1))
    logits = (decoder.start + decoder.output(h)).view(3, 7, 64)
    p = torch.distributions.Bernoulli(logits=logits)
    torch.testing.assert_close(terms.log_likelihood, p.log_prob(x).sum(2))
    torch.testing.assert_close(terms.log_posterior, q.log_prob(terms.z))
    torch.testing.assert_close(terms.kl, torch.distributions.kl_divergence(q, model.prior(batch)))
    assert (terms.kl > 0.01).all()


@BOTH
def test_the_walk_is_that_of_the_equations(config: DrawConfig) -> None:
    """Each step by itself, with filters and sums of their own."""
    model, batch = wide(config, of_size(8, 6)), images(config, form=of_size(8, 6))
    terms = model(batch, 1)
    encoder, decoder = model.hand.encoder, model.hand.decoder
    for n in range(7):
        x, canvas = batch.pixels[n, 0].double(), decoder.start.view(8, 6)
        drawing = reading = (torch.zeros(9, dtype=torch.float64),) * 2
        log_q = kl = 0.0
        for z in terms.z[0, n].split(2):
            parts = []
            for image in (x, x - torch.sigmoid(canvas)):
                if config.attention is None:
                    parts.append(image.flatten())
                    continue
                place = encoder.reader.place(drawing[0]).tolist()
                rows, columns = map(torch.from_numpy, filters_by_loops(place, 3, 8, 6))
                parts.append((math.exp(place[4]) * rows @ image @ columns.T).flatten())
            reading = encoder.cell(torch.cat([*parts, drawing[0]]), reading)
            mean, log_variance = encoder.head.mean(reading[0]), encoder.head.log_variance(reading[0])
            log_q += torch.distributions.Normal(mean, (log_variance / 2).exp()).log_prob(z).sum()
            kl += 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum()
            drawing = decoder.cell(z, drawing)
            written = decoder.output(drawing[0])
            if config.attention is not None:
                place = decoder.writer.place(drawing[0]).tolist()
                rows, columns = map(torch.from_numpy, filters_by_loops(place, 4, 8, 6))
                written = math.exp(-place[4]) * rows.T @ written.view(4, 4) @ columns
            canvas = canvas + written.view(8, 6)
        log_p = torch.distributions.Bernoulli(logits=canvas).log_prob(x).sum()
        found = torch.stack([terms.log_posterior[0, n], terms.kl[n], terms.log_likelihood[0, n]])
        torch.testing.assert_close(found, torch.stack([log_q, kl, log_p]))


@BOTH
def test_the_bound_is_below_log_p_and_many_draws_reach_it(config: DrawConfig) -> None:
    """log p(x) of a 2×2 image by Gauss–Hermite quadrature over the z of two steps."""
    config = replace(config, num_steps=2, latent_size=1)
    model, batch = wide(config, of_size(2, 2)), batch_of(torch.tensor([[[[1.0, 0.0], [1.0, 1.0]]]]))
    nodes, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(60))
    z = torch.cartesian_prod(nodes, nodes).unsqueeze(1)
    log_weights = (weights / weights.sum()).log()
    exact = torch.logsumexp(
        model.log_likelihood(z, batch)[:, 0] + (log_weights[:, None] + log_weights).flatten(), 0
    ).item()
    torch.manual_seed(0)
    terms = model(batch, 20_000)
    weight = (terms.log_weight[:, 0] - exact).exp()
    assert weight.mean().item() == pytest.approx(1, abs=5 * weight.std().item() / 20_000**0.5)
    assert terms.elbo.item() < exact - 0.01
    assert terms.log_weight.mean().item() == pytest.approx(terms.elbo.item(), abs=0.1)


@BOTH
def test_one_walk_and_three_passes_are_the_same_bound(config: DrawConfig) -> None:
    model, batch = wide(config, of_size(8, 8)), images(config)
    found = []
    for path_gradient in (False, True):
        torch.manual_seed(3)
        found.append(model(batch, 3, path_gradient=path_gradient))
    for name in ("z", "log_likelihood", "log_prior", "log_posterior"):
        torch.testing.assert_close(getattr(found[0], name), getattr(found[1], name))
    assert found[0].kl_per_dimension.shape == (7, 6)


@BOTH
def test_the_posterior_s_moments_are_those_of_its_draws(config: DrawConfig) -> None:
    model, batch, num_draws = wide(config, of_size(4, 4)), images(config, 3, of_size(4, 4)), 20_000
    with torch.no_grad():
        q = model.posterior(batch)
        z = q.sample((num_draws,))
    error = q.stddev / num_draws**0.5
    torch.testing.assert_close(q.mean, z.mean(0), atol=5 * error.max().item() + 0.01, rtol=0)
    torch.testing.assert_close(q.stddev, z.std(0), atol=0.02, rtol=0.02)
    assert q.mean.std() > 0.05


@BOTH
def test_densities_at_another_image_s_z_are_those_of_walks_of_their_own(config: DrawConfig) -> None:
    model, batch = wide(config, of_size(8, 8)), images(config)
    q = model.posterior(batch)
    z = q.rsample()
    found = pairwise_log_prob(q, z[:5])
    expected = torch.stack([q.log_prob(one.expand(7, -1)) for one in z[:5]])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.diagonal(), q.log_prob(z)[:5])
    assert found.std() > 0.1


def test_what_is_encoded_without_gradients_has_none() -> None:
    model, batch = built(PLAIN), images(PLAIN)
    with torch.no_grad():
        q = model.posterior(batch)
    assert not q.log_prob(q.sample()).requires_grad
    assert not q.mean.requires_grad


@pytest.mark.parametrize("setting", ["num_steps=0", "attention.read_size=0", "attention.write_size=0", "latent_size=0"])
def test_nothing_of_steps_or_filters_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=rf"model.*{setting.split('=')[0].split('.')[-1]}: Input should be greater"):
        tiny_image_recipe("digits_draw", f"model.{setting}")


@pytest.mark.parametrize("attention", ["{read_size: 3, write_size: 4}", "null"])
def test_runs_are_measured_and_draw(attention: str, tmp_path: Path) -> None:
    recipe = tiny_image_recipe("digits_draw", f"model.attention={attention}", "train.epochs=2")
    trained = open_trained_images(start_image_run(recipe, tmp_path / "run"))
    figures = measure(trained, num_samples=20, limit=40).figures
    assert len(figures.kl_per_dimension) == trained.model.latent_size == 3 * recipe.model.latent_size
    assert sum(figures.kl_per_dimension) == pytest.approx(figures.kl.value, rel=1e-4)
    assert figures.nll.value <= -figures.elbo.value + 0.2
    assert measure(trained, num_samples=20, limit=40).figures == figures
    batch = generation.images_of_test(trained, [0, 1])
    ends = generation.reconstruct(trained, batch)
    torch.testing.assert_close(generation.interpolate(trained, batch, 3, "linear")[[0, 2]], ends)
