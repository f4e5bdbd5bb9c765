"""The mixture prior against torch's own and scikit-learn's, and the bound on the KL to it."""

import math

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from latent.distributions import diagonal_normal, kl_divergence, log_prob, rsample_and_log_prob, standard_normal
from latent.distributions.mixtures import NormalMixture, NormalMixturePrior, mixture_kl_bound

K, Z, B = 5, 3, 4


def random_prior(seed: int = 0, num_clusters: int = K, dtype: torch.dtype = torch.float64) -> NormalMixturePrior:
    torch.manual_seed(seed)
    prior = NormalMixturePrior(num_clusters, Z, variance_floor=1e-3).to(dtype)
    with torch.no_grad():
        prior.logits.normal_()
        prior.means.mul_(2)
        prior.log_excess_variances.normal_()
    return prior


def random_posterior(seed: int = 0, batch_size: int = B) -> Independent:
    generator = torch.Generator().manual_seed(seed)
    mean = 2 * torch.randn(batch_size, Z, generator=generator, dtype=torch.float64)
    scale = torch.rand(batch_size, Z, generator=generator, dtype=torch.float64) + 0.3
    return diagonal_normal(mean.requires_grad_(), scale.requires_grad_())


def permuted(prior: NormalMixturePrior, order: Tensor) -> NormalMixturePrior:
    other = NormalMixturePrior(len(order), Z, prior.variance_floor).double()
    other.load_state_dict({name: value[order] for name, value in prior.state_dict().items()})
    return other


def test_density_is_that_of_torch_and_of_scikit_learn() -> None:
    prior = random_prior()
    p, z = prior(B), 3 * torch.randn(7, B, Z, dtype=torch.float64)
    components = Independent(Normal(prior.means, prior.variances.sqrt()), 1)
    torch.testing.assert_close(
        log_prob(p, z), MixtureSameFamily(Categorical(logits=prior.logits), components).log_prob(z)
    )
    other = GaussianMixture(K, covariance_type="diag")
    other.weights_ = prior.logits.softmax(0).detach().numpy()
    other.means_, other.covariances_ = prior.means.detach().numpy(), prior.variances.detach().numpy()
    other.precisions_cholesky_ = 1 / np.sqrt(other.covariances_)
    flat = z.flatten(0, 1)
    np.testing.assert_allclose(p.log_prob(z).detach().flatten(), other.score_samples(flat.numpy()))
    shares = prior(len(flat)).cluster_log_probs(flat).exp().detach()
    np.testing.assert_allclose(shares, other.predict_proba(flat.numpy()))


def test_draws_have_the_mean_and_variance_of_the_mixture() -> None:
    p = random_prior()(50_000)
    z = p.sample()
    assert z.shape == (50_000, Z)
    torch.testing.assert_close(z.mean(0), p.mean[0], atol=0.1, rtol=0)
    torch.testing.assert_close(z.var(0), p.variance[0], atol=0, rtol=0.05)


def test_the_clusters_put_together_are_the_mixture() -> None:
    """Σ_c γ_c (ln π_c + ln N_c(z) − ln γ_c) = ln p(z) with γ = p(c|z) at the same z."""
    p, z = random_prior()(B), 3 * torch.randn(6, B, Z, dtype=torch.float64)
    log_shares = p.cluster_log_probs(z)
    together = (log_shares.exp() * (p.joint_log_prob(z) - log_shares)).sum(-1)
    torch.testing.assert_close(together, p.log_prob(z))


def test_weights_enter_once_whatever_the_number_of_dimensions() -> None:
    """Components that coincide leave γ = π: the weights' logarithm is not summed over dimensions."""
    means, scales = torch.zeros(2, 2, 10), torch.ones(2, 2, 10)
    p = NormalMixture(torch.tensor([[0.9, 0.1]]).log().expand(2, -1), means, scales)
    shares = p.cluster_log_probs(torch.randn(2, 10)).exp()
    torch.testing.assert_close(shares, torch.tensor([[0.9, 0.1]]).expand(2, -1))


def test_far_from_all_centres_there_is_a_nearest_one_and_a_gradient() -> None:
    prior = random_prior(dtype=torch.float32)
    z = torch.full((1, 2, Z), 1e3, requires_grad=True)
    q = diagonal_normal(z[0], torch.ones(2, Z))
    shares = prior(2).cluster_log_probs(z).exp()
    torch.testing.assert_close(shares.sum(-1), torch.ones(1, 2))
    assert shares.max() > 0.99
    bound = mixture_kl_bound(q, prior(2), z)
    assert torch.isfinite(bound).all()
    (bound.sum() + prior(2).log_prob(z).sum()).backward()
    for tensor in (z, *prior.parameters()):
        assert torch.isfinite(tensor.grad).all()


def test_the_floor_holds_and_weights_sum_to_one_after_wild_steps() -> None:
    prior = random_prior(dtype=torch.float32)
    with torch.no_grad():
        prior.log_excess_variances.fill_(-1e4)
        prior.logits.normal_().mul_(1e3)
    assert (prior.variances >= 1e-3).all()
    p = prior(1)
    torch.testing.assert_close(p.mixture_distribution.probs.sum(-1), torch.ones(1))
    assert torch.isfinite(p.log_prob(torch.randn(3, 1, Z))).all()


def test_the_bound_lies_above_the_kl_by_what_the_shares_vary() -> None:
    """Bound − KL = E KL(γ(z) || p(c|z')) over two draws z, z' of q: 0 where the components coincide."""
    q, p = random_posterior(), random_prior()(B)
    torch.manual_seed(1)
    z, log_q = rsample_and_log_prob(q, 50_000)
    kl = log_q - p.log_prob(z)
    bound = mixture_kl_bound(q, p, z)
    log_shares = p.cluster_log_probs(z)
    gap = (log_shares.exp() * log_shares).sum(-1).mean(0) - (log_shares.exp().mean(0) * log_shares.mean(0)).sum(-1)
    error = 4 * kl.std(0) / math.sqrt(len(kl))
    assert (bound > kl.mean(0) - error).all()
    assert ((bound - kl.mean(0) - gap).abs() < 2 * error).all()
    assert gap.max() > 0.1


def test_the_bound_holds_for_each_draw_and_its_gradient_is_right() -> None:
    """With one draw, a function of the noise alone: the gradient is that of finite differences."""
    q, prior = random_posterior(batch_size=2), random_prior()
    noise = torch.randn(1, 2, Z, dtype=torch.float64)

    def bound(mean: Tensor, scale: Tensor, logits: Tensor, means: Tensor, log_excess: Tensor) -> Tensor:
        state = {"logits": logits, "means": means, "log_excess_variances": log_excess}
        p = torch.func.functional_call(prior, state, (2,))
        return mixture_kl_bound(diagonal_normal(mean, scale), p, mean + scale * noise)

    base = q.base_dist
    assert torch.autograd.gradcheck(bound, (base.loc, base.scale, *prior.parameters()))


def test_one_standard_component_is_the_kl_of_the_vae() -> None:
    q = random_posterior()
    prior = NormalMixturePrior(1, Z, variance_floor=1e-3).double()
    prior.start_at(*(torch.ones(1), torch.zeros(1, Z), torch.ones(1, Z)))
    z, _ = rsample_and_log_prob(q, 3)
    expected = kl_divergence(q, standard_normal(B, Z, q.mean), torch.zeros(1, B, dtype=torch.float64))
    torch.testing.assert_close(mixture_kl_bound(q, prior(B), z), expected.total)
    torch.testing.assert_close(prior(B).log_prob(z), log_prob(standard_normal(B, Z, q.mean), z))


def test_permuting_the_clusters_changes_nothing() -> None:
    prior, q = random_prior(), random_posterior()
    order = torch.tensor([3, 0, 4, 1, 2])
    other = permuted(prior, order)
    z, _ = rsample_and_log_prob(q, 3)
    torch.testing.assert_close(other(B).log_prob(z), prior(B).log_prob(z))
    torch.testing.assert_close(mixture_kl_bound(q, other(B), z), mixture_kl_bound(q, prior(B), z))
    torch.testing.assert_close(other(B).cluster_log_probs(z), prior(B).cluster_log_probs(z)[..., order])


def test_it_starts_where_it_is_told_and_variances_on_the_floor_start_just_above_it() -> None:
    prior = NormalMixturePrior(2, Z, variance_floor=0.01).double()
    weights, means = torch.tensor([0.2, 0.8]).double(), torch.randn(2, Z).double()
    variances = torch.tensor([[1.0, 0.5, 2.0], [0.0, 0.01, 3.0]]).double()
    prior.start_at(weights, means, variances)
    torch.testing.assert_close(prior.logits.softmax(0).detach(), weights)
    torch.testing.assert_close(prior.means.detach(), means)
    torch.testing.assert_close(prior.variances.detach(), variances.clamp(min=0.01), atol=1e-4, rtol=0)
    assert (prior.variances > 0.01).all()


@pytest.mark.parametrize("batch_size", [0, 1])
def test_a_batch_of_none_and_of_one(batch_size: int) -> None:
    q, p = random_posterior(batch_size=batch_size), random_prior()(batch_size)
    z, _ = rsample_and_log_prob(q, 2)
    assert p.log_prob(z).shape == (2, batch_size)
    assert mixture_kl_bound(q, p, z).shape == (batch_size,)
