"""KL, densities of pairs and rows of distributions against second implementations."""

import pytest
import torch
from torch.distributions import Distribution, Independent, Laplace, MixtureSameFamily, Normal

from latent.distributions import (
    NormalHead,
    concatenate,
    diagonal_normal,
    kl_divergence,
    pairwise_log_prob,
    rsample_and_log_prob,
    standard_normal,
    take,
)


def random_normal(batch_size: int, latent_size: int = 4, seed: int = 0) -> Distribution:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(batch_size, latent_size, generator=generator, dtype=torch.float64)
    scale = torch.rand(batch_size, latent_size, generator=generator, dtype=torch.float64) + 0.3
    return diagonal_normal(mean.requires_grad_(), scale.requires_grad_())


def test_closed_form_kl_equals_the_textbook() -> None:
    q = random_normal(6)
    mean, scale = q.base_dist.loc, q.base_dist.scale
    found = kl_divergence(q, standard_normal(6, 4, mean), torch.zeros(1, 6, dtype=torch.float64))
    expected = 0.5 * (mean**2 + scale**2 - 2 * scale.log() - 1)
    assert found.closed_form
    torch.testing.assert_close(found.per_dimension, expected)
    torch.testing.assert_close(found.total, expected.sum(-1))


def test_monte_carlo_kl_and_its_gradient_agree_with_the_closed_form() -> None:
    torch.manual_seed(0)
    q = random_normal(3)
    p = standard_normal(3, 4, q.mean)
    z, log_q = rsample_and_log_prob(q, 200_000)
    exact = kl_divergence(q, p, torch.zeros(1, 3, dtype=torch.float64)).total
    sampled = (log_q - p.log_prob(z)).mean(0)
    torch.testing.assert_close(sampled, exact, atol=0.02, rtol=0)
    leaves = (q.base_dist.loc, q.base_dist.scale)
    of_exact = torch.autograd.grad(exact.sum(), leaves, retain_graph=True)
    of_sampled = torch.autograd.grad(sampled.sum(), leaves)
    for a, b in zip(of_exact, of_sampled, strict=True):
        torch.testing.assert_close(a, b, atol=0.05, rtol=0)


def test_a_pair_without_a_rule_falls_to_monte_carlo_and_says_so() -> None:
    q = random_normal(3)
    weights = torch.distributions.Categorical(torch.ones(2, dtype=torch.float64))
    mixture = MixtureSameFamily(weights, diagonal_normal(torch.zeros(2, 4).double(), torch.ones(2, 4).double()))
    log_ratio = torch.randn(5, 3, dtype=torch.float64)
    found = kl_divergence(q, mixture, log_ratio)
    assert not found.closed_form
    assert found.per_dimension is None
    torch.testing.assert_close(found.total, log_ratio.mean(0))


def test_pairwise_log_prob_equals_the_plain_loop() -> None:
    q, z = random_normal(5), torch.randn(3, 4, dtype=torch.float64)
    expected = torch.stack([q.log_prob(row.expand(5, 4)) for row in z])
    torch.testing.assert_close(pairwise_log_prob(q, z), expected)
    laplace = Independent(Laplace(q.base_dist.loc, q.base_dist.scale), 1)
    expected = torch.stack([laplace.log_prob(row.expand(5, 4)) for row in z])
    torch.testing.assert_close(pairwise_log_prob(laplace, z), expected)


def test_concatenate_and_take_are_inverse() -> None:
    first, second = random_normal(2, seed=1), random_normal(3, seed=2)
    joined = concatenate(first, second)
    assert joined.batch_shape == (5,)
    torch.testing.assert_close(take(joined, torch.tensor([2, 3, 4])).mean, second.mean)
    torch.testing.assert_close(take(joined, torch.tensor([1, 0])).stddev, first.stddev.flip(0))


def test_a_family_without_rules_is_named() -> None:
    with pytest.raises(ValueError, match="no rule to join Laplace"):
        concatenate(Laplace(torch.zeros(2), torch.ones(2)))
    with pytest.raises(ValueError, match="no rule to pick rows of Laplace"):
        take(Laplace(torch.zeros(2), torch.ones(2)), torch.tensor([0]))


def test_the_head_is_a_normal_in_float32_under_autocast() -> None:
    head = NormalHead(6, 4)
    features = torch.randn(3, 6)
    with torch.autocast("cpu", torch.bfloat16):
        q = head(features)
    assert isinstance(q.base_dist, Normal)
    assert q.mean.dtype == torch.float32
    torch.testing.assert_close(head(features).stddev, (0.5 * head.log_variance(features)).exp(), atol=1e-6, rtol=1e-6)
