"""Masked convolutions: what a pixel sees, probabilities that sum to one, draws; and what comes of a run."""

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_image_models import CONV, FORM, MLP, SMALL_PIXELCNN, built, images
from tiny import start_image_run, tiny_image_recipe
from torch import Tensor

from corpora.images import ImageBatch
from imagevae import generation
from imagevae.form import ImageForm
from imagevae.measuring import measure, squared_errors
from imagevae.models import PixelCnnConfig, PixelVaeConfig
from imagevae.pixelcnn import PixelDecoder
from imagevae.sample_quality import draw_images
from imagevae.session import open_trained_images

VAE = PixelVaeConfig(latent_size=4, network=MLP, **SMALL_PIXELCNN)
KERNELS = [(3,), (5,), (3, 3), (5, 3, 3), (3, 3, 3, 5)]


def of_size(height: int, width: int, channels: int = 1) -> ImageForm:
    return ImageForm(channels=channels, height=height, width=width, class_names=())


def batch_of(pixels: Tensor) -> ImageBatch:
    return ImageBatch(pixels=pixels, indices=torch.arange(len(pixels)), labels=None)


def every_image(height: int, width: int) -> Tensor:
    bits = list(itertools.product([0.0, 1.0], repeat=height * width))
    return torch.tensor(bits, dtype=torch.float64).view(-1, 1, height, width)


def wide(config: Any, form: ImageForm) -> Any:
    """A model whose probabilities are far from ½ and from each other."""
    model = built(config, form).eval()
    with torch.no_grad():
        for name, parameter in model.decoder.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.8 if "output" in name else 0.4))
    return model


def is_seen(form: ImageForm, kernel_sizes: tuple[int, ...], i: int, j: int) -> Tensor:
    """The pixels that the decoder's docstring says are seen from row i, column j."""
    reach = sum(size // 2 for size in kernel_sizes)
    row, column = torch.meshgrid(torch.arange(form.height), torch.arange(form.width), indexing="ij")
    left = (row == i) & (column < j) & (column >= j - reach)
    above = (row < i) & (row >= i - reach - 1) & ((column - j).abs() <= reach)
    return left | above


def jacobian(model: Any, form: ImageForm) -> Tensor:
    """The logit of each pixel by each pixel, of which there are H·W·C in the order i, j, c, summed over some inputs."""
    total = torch.zeros(form.num_pixels, form.num_pixels, dtype=torch.float64)
    for pixels in torch.rand(3, *form.shape, dtype=torch.float64):
        z = torch.randn(1, model.latent_size, dtype=torch.float64)
        found = torch.autograd.functional.jacobian(lambda x, z=z: model.decoder(z, x.unsqueeze(0))[0], pixels)
        total += found.abs().permute(1, 2, 0, 4, 5, 3).reshape(form.num_pixels, form.num_pixels)
    return total


@pytest.mark.parametrize("kernel_sizes", KERNELS)
@pytest.mark.parametrize("num_channels", [1, 2])
def test_a_logit_depends_on_its_receptive_field_exactly(kernel_sizes: tuple[int, ...], num_channels: int) -> None:
    form = of_size(7, 8, num_channels)
    model = wide(replace(VAE, kernel_sizes=kernel_sizes), form)
    found = (jacobian(model, form) > 0).view(7, 8, num_channels, 7, 8, num_channels)
    for i, j in itertools.product(range(7), range(8)):
        expected = is_seen(form, kernel_sizes, i, j)[:, :, None].expand(-1, -1, num_channels)
        for channel in range(num_channels):
            assert torch.equal(found[i, j, channel], expected), (i, j, channel)


def test_a_wide_enough_field_is_all_that_is_before_a_pixel_and_has_no_blind_spot() -> None:
    form = of_size(5, 5)
    found = jacobian(wide(replace(VAE, kernel_sizes=(3, 5, 3)), form), form) > 0
    assert torch.equal(found, torch.ones(25, 25, dtype=torch.bool).tril(-1))


@pytest.mark.parametrize("network", [MLP, replace(CONV, activation="tanh")])
@pytest.mark.parametrize("kernel_sizes", KERNELS)
def test_z_reaches_every_logit(network: Any, kernel_sizes: tuple[int, ...]) -> None:
    config = replace(VAE, network=network, kernel_sizes=kernel_sizes)
    model, batch = wide(config, FORM), images(config)
    a, b = model.outputs(torch.randn(2, 7, 4, dtype=torch.float64), batch)
    assert (a != b).all()


@pytest.mark.parametrize("config", [VAE, PixelCnnConfig(**SMALL_PIXELCNN), replace(VAE, kernel_sizes=(3,))])
@pytest.mark.parametrize(("height", "width"), [(2, 2), (3, 3), (2, 4)])
def test_probabilities_of_all_images_sum_to_one(config: Any, height: int, width: int) -> None:
    model, batch = wide(config, of_size(height, width)), batch_of(every_image(height, width))
    z = torch.randn(3, 1, model.latent_size, dtype=torch.float64).expand(-1, len(batch), -1)
    found = model.log_likelihood(z, batch)
    torch.testing.assert_close(found.logsumexp(1), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
    assert found.std() > 0.3  # they are not all alike


def test_samples_are_as_frequent_as_they_are_probable() -> None:
    model = wide(VAE, of_size(2, 2))
    z, all_images, num_draws = torch.randn(1, 4, dtype=torch.float64), every_image(2, 2), 40_000
    expected = model.log_likelihood(z.expand(1, 16, -1), batch_of(all_images))[0].exp()
    torch.manual_seed(0)
    drawn = model.drawn(z.expand(num_draws, -1), batch_of(torch.zeros(num_draws, 1, 2, 2)))
    numbers = (drawn * torch.tensor([8, 4, 2, 1])).sum(1).long()
    found = torch.bincount(numbers, minlength=16) / num_draws
    errors = (found - expected) / (expected * (1 - expected) / num_draws).sqrt()
    assert errors.square().sum() < 45  # χ² with 15 degrees of freedom exceeds it once in 10⁴


def drawn_one_by_one(decoder: PixelDecoder, z: Tensor, uniform: Tensor) -> Tensor:
    """Every pixel by a pass over the whole image."""
    pixels = torch.zeros_like(uniform)
    for i, j in itertools.product(range(uniform.shape[2]), range(uniform.shape[3])):
        probability = torch.sigmoid(decoder(z, pixels)[:, :, i, j])
        pixels[:, :, i, j] = (uniform[:, :, i, j] < probability).double()
    return pixels


@pytest.mark.parametrize("kernel_sizes", KERNELS)
@pytest.mark.parametrize("num_channels", [1, 2])
def test_draws_with_what_is_kept_are_those_of_whole_passes(kernel_sizes: tuple[int, ...], num_channels: int) -> None:
    form = of_size(6, 5, num_channels)
    model = wide(replace(VAE, kernel_sizes=kernel_sizes), form)
    z = torch.randn(9, 4, dtype=torch.float64)
    uniform = torch.rand(9, *form.shape, dtype=torch.float64)
    with torch.no_grad():
        found, expected = model.decoder.sample(z, uniform), drawn_one_by_one(model.decoder, z, uniform)
    assert torch.equal(found, expected)
    assert 0.1 < found.mean() < 0.9
    assert (found[0] != found[1]).any()


def test_without_a_word_from_the_layers_it_is_a_bernoulli() -> None:
    model, batch = built(VAE), images(VAE)
    torch.nn.init.zeros_(model.decoder.output.weight)
    torch.nn.init.zeros_(model.decoder.start)
    found = model.log_likelihood(torch.zeros(1, 7, 4, dtype=torch.float64), batch)
    torch.testing.assert_close(found, torch.full((1, 7), -64 * math.log(2), dtype=torch.float64))


def test_the_pixelcnn_s_bound_is_exact() -> None:
    config = PixelCnnConfig(**SMALL_PIXELCNN)
    model, batch = built(config), images(config)
    terms = model(batch, 3)
    assert not terms.kl.any()
    torch.testing.assert_close(terms.log_weight, terms.elbo.expand(3, -1), atol=1e-12, rtol=0)


@pytest.mark.parametrize("sizes", [(5, 4), (1,), (3, 0), ()])
def test_kernels_that_cannot_be_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"model.kernel_sizes.* should |model: kernel_sizes: a masked convolution is 3, 5, 7"
    ):
        tiny_image_recipe("digits_pixelvae", f"model.kernel_sizes={list(sizes)}")


@pytest.mark.parametrize("name", ["digits_pixelvae", "digits_pixelcnn"])
def test_runs_are_measured_and_draw(name: str, tmp_path: Path) -> None:
    trained = open_trained_images(start_image_run(tiny_image_recipe(name), tmp_path / "run"))
    figures = measure(trained, num_samples=20, limit=50).figures
    assert figures.nll.value <= -figures.elbo.value + 0.2
    assert (figures.verdict == "absent") == (name == "digits_pixelcnn")
    assert 0 < figures.squared_error.value < 0.3
    batch = generation.images_of_test(trained, [0, 1, 2])
    shown = generation.reconstruct(trained, batch)
    walked = generation.interpolate(trained, batch.take(torch.tensor([0, 1])), 4, "linear")
    sampled, _ = generation.sample(trained, 5, seed=1)
    drawn = draw_images(trained, torch.zeros(6, dtype=torch.int64), 1)
    for found, number in ((shown, 3), (walked, 4), (sampled, 5), (drawn, 6)):
        assert found.shape == (number, 1, 8, 8)
        assert ((found == 0) | (found == 1)).all()
        assert (found[0] != found[1]).any()
    torch.testing.assert_close(sampled, generation.sample(trained, 5, seed=1)[0], atol=0, rtol=0)
    assert trained.model.shown_as == "x ~ p(x|z)"


def test_a_squared_error_is_of_expectations_given_the_pixels_before(tmp_path: Path) -> None:
    trained = open_trained_images(start_image_run(tiny_image_recipe("digits_pixelvae"), tmp_path / "run"))
    batch = generation.images_of_test(trained, [0, 1])
    z = torch.zeros(2, trained.model.latent_size)
    probabilities = torch.sigmoid(trained.model.outputs(z.unsqueeze(0), batch)[0])
    expected = (batch.pixels.flatten(1) - probabilities).square().mean(1)
    found = squared_errors(trained, [batch], z)
    torch.testing.assert_close(found, expected)
