"""p(x|z) of pixels against torch's distributions, sums over all levels and draws."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Normal

from imagevae.likelihoods import (
    LEAST_LOG_SCALE,
    LIKELIHOODS,
    Bernoulli,
    DiscretisedLogistic,
    Gaussian,
    Likelihood,
    floored,
)

LEVELS = torch.arange(256, dtype=torch.float64) / 255
LOCATIONS = (-30.0, -0.5, -1e-3, 0.0, 0.3, 0.5, 1.0, 1.2, 40.0)
LOG_SCALES = (-9.0, LEAST_LOG_SCALE, -3.5, -2.0, 0.0, 3.0)
KINDS = pytest.mark.parametrize("kind", LIKELIHOODS)


def seeded(kind: str, num_values: int = 6) -> Likelihood:
    """In float64, with a scale for each value where it has one."""
    likelihood = LIKELIHOODS[kind](num_values).double()
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.copy_(torch.linspace(-6, 0.5, num_values))
    return likelihood


def outputs_and_images(kind: str) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    a, x = torch.randn(3, 5, 6, dtype=torch.float64), torch.randint(0, 256, (5, 6)) / 255
    return a, (x > 0.5).float() if kind == "bernoulli" else x


@KINDS
def test_values_are_summed_and_draws_are_a_leading_dimension(kind: str) -> None:
    likelihood, (a, x) = seeded(kind), outputs_and_images(kind)
    together = likelihood.log_prob(a, x)
    assert together.shape == (3, 5)
    for sample, row in ((0, 0), (2, 4)):
        alone = likelihood.log_prob(a[sample : sample + 1, row : row + 1], x[row : row + 1])
        torch.testing.assert_close(together[sample, row], alone[0, 0])


def test_bernoulli_is_torch_s() -> None:
    a, x = outputs_and_images("bernoulli")
    expected = TorchBernoulli(logits=a).log_prob(x.double().expand_as(a)).sum(-1)
    torch.testing.assert_close(Bernoulli(6).log_prob(a, x), expected)
    torch.testing.assert_close(Bernoulli(6).mean(a[0]), TorchBernoulli(logits=a[0]).mean)


def test_gaussian_is_torch_s_and_its_scale_has_a_least() -> None:
    a, x = outputs_and_images("gaussian")
    likelihood = seeded("gaussian")
    scale = floored(likelihood.log_scale).detach().exp()
    assert scale[0] > math.exp(LEAST_LOG_SCALE)
    torch.testing.assert_close(likelihood.log_prob(a, x), Normal(a, scale).log_prob(x.double()).sum(-1))


@pytest.mark.parametrize("log_scale", LOG_SCALES)
@pytest.mark.parametrize("location", LOCATIONS)
def test_the_256_levels_of_a_discretised_logistic_sum_to_one(location: float, log_scale: float) -> None:
    likelihood = DiscretisedLogistic(1).double()
    torch.nn.init.constant_(likelihood.log_scale, log_scale)
    a = torch.full((1, 256, 1), location, dtype=torch.float64)
    probabilities = likelihood.log_prob(a, LEVELS[:, None])[0].exp()
    assert probabilities.sum().item() == pytest.approx(1.0, abs=1e-12)
    assert likelihood.mean(a[0, :1]).item() == pytest.approx((probabilities @ LEVELS).item(), abs=3e-5)


@pytest.mark.parametrize("log_scale", [-4.0, -2.0, 0.0])
@pytest.mark.parametrize("location", [-0.1, 0.2, 0.7, 1.05])
def test_a_discretised_logistic_is_a_difference_of_sigmoids(location: float, log_scale: float) -> None:
    likelihood = DiscretisedLogistic(1).double()
    torch.nn.init.constant_(likelihood.log_scale, log_scale)
    scale = floored(likelihood.log_scale).detach().exp()
    upper = torch.sigmoid((LEVELS + 1 / 510 - location) / scale)
    lower = torch.sigmoid((LEVELS - 1 / 510 - location) / scale)
    upper[-1], lower[0] = 1.0, 0.0
    found = likelihood.log_prob(torch.full((1, 256, 1), location, dtype=torch.float64), LEVELS[:, None])[0]
    near = (upper - lower) > 1e-10  # where the difference has digits left
    assert near.sum() > 30
    torch.testing.assert_close(found[near], (upper - lower).log()[near], rtol=0, atol=1e-5)
    middle = near & (lower < 0.9)
    torch.testing.assert_close(found[middle], (upper - lower).log()[middle], rtol=1e-9, atol=1e-9)


@KINDS
def test_gradients_are_finite_at_extremes_in_float32(kind: str) -> None:
    far = 50.0 if kind == "gaussian" else 1e4  # its logarithm falls with the square
    x = torch.tensor([0.0, 1.0]) if kind == "bernoulli" else torch.tensor([0.0, 1 / 255, 0.5, 1.0])
    locations = torch.tensor([-far, -1.0, 0.0, 0.5, 1.0, far])
    for log_scale in (-20.0, LEAST_LOG_SCALE, 0.0, 10.0):
        likelihood = LIKELIHOODS[kind](1)
        for parameter in likelihood.parameters():
            torch.nn.init.constant_(parameter, log_scale)
        a = locations.repeat(len(x)).view(1, -1, 1).requires_grad_()
        pixels = x.repeat_interleave(len(locations))[:, None]
        found = likelihood.log_prob(a, pixels)
        assert torch.isfinite(found).all()
        found.sum().backward()
        assert torch.isfinite(a.grad).all()
        assert all(torch.isfinite(parameter.grad).all() for parameter in likelihood.parameters())
        too_high, too_low = (a[0] == far) & (pixels < 1), (a[0] == -far) & (pixels > 0)
        assert (a.grad[0, too_high] < 0).all()  # far off, and pulled back
        assert (a.grad[0, too_low] > 0).all()


def test_likelihoods_are_float32_where_the_decoder_is_narrower() -> None:
    for kind in LIKELIHOODS:
        a, x = outputs_and_images(kind)
        assert LIKELIHOODS[kind](6).log_prob(a.bfloat16(), x).dtype == torch.float32


@KINDS
def test_the_initial_bias_gives_the_mean_image(kind: str) -> None:
    likelihood = LIKELIHOODS[kind](5).double()
    mean = torch.tensor([0.002, 0.1, 0.5, 0.8, 0.998], dtype=torch.float64)
    torch.testing.assert_close(likelihood.mean(likelihood.initial_bias(mean)[None])[0], mean)
    always = likelihood.initial_bias(torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0], dtype=torch.float64))
    assert torch.isfinite(always).all()
    torch.testing.assert_close(
        likelihood.mean(always[None])[0], torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]).double(), atol=2e-3, rtol=0
    )


@KINDS
def test_draws_have_the_claimed_mean(kind: str) -> None:
    likelihood = seeded(kind)
    a = torch.tensor([[-0.3, 0.02, 0.4, 0.9, 1.0, 1.3]], dtype=torch.float64)
    torch.manual_seed(1)
    drawn = likelihood.sample(a.expand(20_000, -1))
    error = drawn.std(0) / math.sqrt(len(drawn))
    assert ((drawn.mean(0) - likelihood.mean(a)[0]).abs() < 4 * error + 5e-5).all()
    if kind != "gaussian":  # every draw is a level that the likelihood has a probability for
        assert torch.isin((drawn * 255).round(), torch.arange(256)).all()
        torch.testing.assert_close(drawn * 255, (drawn * 255).round())
        assert torch.isfinite(likelihood.log_prob(a.expand(1, 100, -1), drawn[:100])).all()


@KINDS
def test_draws_have_the_claimed_probabilities(kind: str) -> None:
    """The mean log-likelihood of draws is minus the entropy: it is what draws of the same law have."""
    likelihood = seeded(kind)
    if kind == "gaussian":
        scale = floored(likelihood.log_scale).detach().exp()
        entropy = Normal(torch.zeros_like(scale), scale).entropy().sum()
    else:
        entropy = sum(entropy_of_value(kind, likelihood, value) for value in range(6))
    torch.manual_seed(3)
    zeros = torch.zeros(20_000, 6, dtype=torch.float64)
    found = likelihood.log_prob(zeros[None], likelihood.sample(zeros))[0].detach()
    assert abs(found.mean() + entropy) < 4 * found.std() / math.sqrt(len(found)) + 1e-9


def entropy_of_value(kind: str, likelihood: Likelihood, value: int) -> Tensor:
    """Of one of its values, whose output is 0, by the sum over its levels."""
    alone = LIKELIHOODS[kind](1).double()
    alone.load_state_dict({name: tensor[value : value + 1] for name, tensor in likelihood.state_dict().items()})
    levels = LEVELS[[0, 255]] if kind == "bernoulli" else LEVELS
    log_probs = alone.log_prob(torch.zeros(1, len(levels), 1, dtype=torch.float64), levels[:, None])[0].detach()
    return -(log_probs.exp() * log_probs).sum()


def test_every_likelihood_is_one() -> None:
    assert {"bernoulli": Bernoulli, "discretised_logistic": DiscretisedLogistic, "gaussian": Gaussian} == LIKELIHOODS
    assert all(isinstance(LIKELIHOODS[kind](3), Likelihood) for kind in LIKELIHOODS)


def test_a_scale_stays_above_its_floor_and_finds_back_from_it() -> None:
    raw = torch.tensor([-1000.0, -7.0, -5.0, -1.0, 3.0], requires_grad=True)
    found = floored(raw)
    assert (found >= LEAST_LOG_SCALE).all()
    assert found[-1].item() == pytest.approx(3.0, abs=1e-3)
    found[1:].sum().backward()
    assert raw.grad is not None
    assert (raw.grad[1:] > 0.1).all()
