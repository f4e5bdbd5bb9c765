"""Heads with a floor on the KL, priors with weights of their own, and which goes with which."""

import math

import pytest
import torch
from oracle import LinearGaussian, VectorBatch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from latent.distributions import (
    NormalMixturePrior,
    UniformSphere,
    VonMisesFisher,
    diagonal_normal,
    kl_divergence,
    log_prob,
    prior_for,
    standard_normal,
)
from latent.distributions.batch_norm import BatchNormHeadConfig
from latent.distributions.posteriors import (
    DeltaHead,
    DeltaHeadConfig,
    FixedScaleHeadConfig,
    NormalHeadConfig,
    VonMisesFisherHead,
    VonMisesFisherHeadConfig,
    scales_of_kl,
)
from latent.distributions.priors import (
    MixturePriorConfig,
    SequenceReader,
    StandardNormalPriorConfig,
    UniformSpherePriorConfig,
    VampPrior,
    VampPriorConfig,
)
from latent.measures import encode_split, importance_weighted, marginal_kl, mutual_information

CPU = torch.device("cpu")
H, Z = 6, 4


def features(batch_size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch_size, H, generator=generator, dtype=torch.float64)


def kl_to_standard(q: Distribution) -> Tensor:
    found = kl_divergence(q, standard_normal(len(q.mean), Z, q.mean), torch.zeros(1, len(q.mean)).double())
    assert found.per_dimension is not None
    return found.per_dimension


def test_the_scales_of_a_kl() -> None:
    """Those of δ 0.1 and 0.15, and the equation that they solve, also of a small and a large one."""
    assert scales_of_kl(0.1) == pytest.approx((0.702, 1.331), abs=5e-4)
    assert scales_of_kl(0.15) == pytest.approx((0.641, 1.409), abs=5e-4)
    for nats in (1e-6, 0.1, 10.0):
        for scale in scales_of_kl(nats):
            assert 0.5 * (scale**2 - 2 * math.log(scale) - 1) == pytest.approx(nats, rel=1e-6)


@pytest.mark.parametrize("delta", [1e-3, 0.1, 2.0])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e3])
def test_every_dimension_of_every_example_has_delta_nats(delta: float, size: float) -> None:
    torch.manual_seed(0)
    head: DeltaHead = DeltaHeadConfig(least_kl=delta).build(H, Z).double()
    batch = (size * features(200)).requires_grad_()
    q = head(batch)
    found = kl_to_standard(q)
    assert found.min() >= delta
    raw = head.mean(batch)
    least = (2 * delta + 1 + 2 * q.stddev.log() - q.variance).clamp(min=0.0).add(1e-6).sqrt()
    expected = delta + least * raw.abs() + 0.5 * raw.square() + 0.5e-6
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    found.sum().backward()
    assert torch.isfinite(batch.grad).all()


def test_the_floor_of_delta_is_reached_and_both_signs_are() -> None:
    head = DeltaHeadConfig(least_kl=0.1).build(H, Z).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
    found = kl_to_standard(head(features(1)))
    torch.testing.assert_close(found, torch.full((1, Z), 0.1).double(), atol=1e-6, rtol=0)
    with torch.no_grad():
        head.mean.bias.copy_(torch.tensor([-2.0, -1e-3, 1e-3, 2.0]))
    means = head(features(1)).mean[0]
    assert (means.sign() == torch.tensor([-1, -1, 1, 1])).all()
    assert torch.autograd.grad(means.sum(), head.mean.bias)[0].tolist() == [1, 1, 1, 1]


def test_the_directional_head_is_of_unit_length_with_a_fixed_or_a_learned_concentration() -> None:
    fixed: VonMisesFisherHead = VonMisesFisherHeadConfig(concentration=7.0).build(H, Z).double()
    q = fixed(features(5))
    torch.testing.assert_close(q.loc.norm(dim=-1), torch.ones(5).double())
    assert q.concentration.tolist() == [7.0] * 5
    assert {name for name, _ in fixed.named_parameters()} == {"mean.weight", "mean.bias"}
    learned = VonMisesFisherHeadConfig(concentration=7.0, learned_concentration=True).build(H, Z).double()
    found = learned(100 * features(50)).concentration
    assert found.min() >= 7.0
    assert found.max() > 20.0
    assert found.std() > 1.0


def test_the_nearest_point_of_the_sphere_and_of_the_space() -> None:
    z = torch.tensor([[3.0, 4.0, 0.0, 0.0]])
    torch.testing.assert_close(VonMisesFisherHeadConfig().build(H, Z).nearest(z), z / 5)
    for config in (NormalHeadConfig(), BatchNormHeadConfig(), DeltaHeadConfig()):
        torch.testing.assert_close(config.build(H, Z).nearest(z), z, atol=0, rtol=0)


@pytest.mark.parametrize(
    "config", [NormalHeadConfig(), BatchNormHeadConfig(), DeltaHeadConfig(), VonMisesFisherHeadConfig()]
)
def test_heads_give_float32_under_autocast(config: NormalHeadConfig) -> None:
    head = config.build(H, Z).train()
    with torch.autocast("cpu", torch.bfloat16):
        q = head(features(5).float())
        z = q.rsample((3,))
    assert q.mean.dtype == z.dtype == log_prob(q, z).dtype == torch.float32


def test_a_posterior_takes_its_own_priors_and_no_others() -> None:
    assert prior_for(NormalHeadConfig(), None, Z) == StandardNormalPriorConfig()
    assert prior_for(VonMisesFisherHeadConfig(), None, Z) == UniformSpherePriorConfig()
    assert prior_for(NormalHeadConfig(), VampPriorConfig(length=3), Z) == VampPriorConfig(length=3)
    for posterior, prior in (
        (NormalHeadConfig(), UniformSpherePriorConfig()),
        (DeltaHeadConfig(), MixturePriorConfig()),
        (BatchNormHeadConfig(), VampPriorConfig()),
        (VonMisesFisherHeadConfig(), StandardNormalPriorConfig()),
    ):
        with pytest.raises(
            ValueError, match=rf"^posterior {posterior.kind} goes with prior .*, not with {prior.kind}$"
        ):
            prior_for(posterior, prior, Z)
    with pytest.raises(ValueError, match="posterior von_mises_fisher needs latent_size 2 or more"):
        prior_for(VonMisesFisherHeadConfig(), None, 1)


def test_priors_without_weights_store_nothing() -> None:
    for config, of in ((StandardNormalPriorConfig(), Distribution), (UniformSpherePriorConfig(), UniformSphere)):
        prior = config.build(Z).double()
        assert not prior.state_dict()
        p = prior(3)
        assert issubclass(type(p), of)
        assert p.mean.shape == (3, Z)
        assert p.mean.dtype == torch.float64


def test_the_vamp_prior_is_the_mean_of_the_posteriors_of_its_pseudo_inputs() -> None:
    torch.manual_seed(0)
    head = NormalHeadConfig().build(5, Z).double()

    def posterior_of(sequences: Tensor) -> Distribution:
        found: Distribution = head(sequences.mean(1))
        return found

    prior: VampPrior = VampPriorConfig(num_components=3, length=2).build(Z, SequenceReader(5, posterior_of)).double()
    assert prior.pseudo_inputs.shape == (3, 2, 5)
    z = torch.randn(7, 4, Z, dtype=torch.float64)
    each = torch.stack([log_prob(posterior_of(u.unsqueeze(0)), z) for u in prior.pseudo_inputs])
    torch.testing.assert_close(log_prob(prior(4), z), each.exp().mean(0).log())
    log_prob(prior(4), z).sum().backward()
    assert prior.pseudo_inputs.grad.abs().min() > 0
    assert head.mean.weight.grad.abs().sum() > 0
    assert prior(2_000).sample().shape == (2_000, Z)


class WithMixture(LinearGaussian):
    """The linear model with a mixture for its prior: log p(x) is that of a mixture of normals."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.mixture = NormalMixturePrior(2, self.latent_size, variance_floor=1e-3).double()
        with torch.no_grad():
            self.mixture.logits.copy_(torch.tensor([0.3, -0.3]))
            self.mixture.log_excess_variances.fill_(-1.0)

    def prior(self, batch: VectorBatch) -> Distribution:
        return self.mixture(len(batch))

    def posterior(self, batch: VectorBatch) -> Distribution:
        """What the likelihood alone says: wider than the exact posterior, so that weights are bounded."""
        mean = (batch.x - self.b) @ torch.linalg.pinv(self.w).T
        return diagonal_normal(mean, (self.s / self.w.norm(dim=0)).expand_as(mean))

    def log_prob(self, x: Tensor) -> Tensor:
        noise = self.s**2 * torch.eye(len(self.w), dtype=torch.float64)
        parts = [
            log_weight
            + MultivariateNormal(self.w @ mean + self.b, self.w @ variance.diag() @ self.w.T + noise).log_prob(x)
            for log_weight, mean, variance in zip(
                self.mixture.logits.log_softmax(0), self.mixture.means, self.mixture.variances, strict=True
            )
        ]
        return torch.logsumexp(torch.stack(parts), 0)


def test_bounds_with_a_mixture_prior_converge_to_the_exact_likelihood() -> None:
    model = WithMixture()
    torch.manual_seed(0)
    z = model.mixture(400).sample()
    x = z @ model.w.T + model.b + model.s * torch.randn(400, 5, dtype=torch.float64)
    batch = VectorBatch(x.detach(), torch.arange(400))
    exact = -model.log_prob(batch.x).mean().item()
    split = encode_split(model, [batch], CPU)
    assert -split.elbo.mean().item() > exact + 0.2
    assert importance_weighted(model, [batch], CPU, 2_000).nll.mean().item() == pytest.approx(exact, abs=0.02)
    terms = model(batch, 50)
    assert not terms.kl_is_closed_form
    torch.testing.assert_close(terms.kl, (terms.log_posterior - terms.log_prior).mean(0))
    information = mutual_information(split.posterior, split.z)
    total = information.estimate.value + marginal_kl(split, information).estimate.value
    assert total == pytest.approx(split.kl.mean().item(), abs=1e-6)


def test_the_uniform_prior_says_the_same_of_every_point() -> None:
    p = UniformSphere(2, 3, torch.zeros((), dtype=torch.float64))
    z = p.sample((20_000,))
    torch.testing.assert_close(p.log_prob(z), torch.full((20_000, 2), -math.log(4 * math.pi)).double())
    torch.testing.assert_close(z.var((0, 1)), p.variance[0], rtol=0.03, atol=0)
    near_uniform = VonMisesFisher(z[0], torch.full((2,), 1e-4, dtype=torch.float64))
    torch.testing.assert_close(near_uniform.log_prob(z), p.log_prob(z), atol=1e-3, rtol=0)


def test_a_fixed_scale_is_every_posterior_s_and_its_kl_is_the_formula() -> None:
    torch.manual_seed(0)
    q = FixedScaleHeadConfig(scale=0.1).build(H, Z).double()(features(7))
    torch.testing.assert_close(q.stddev, torch.full_like(q.mean, 0.1))
    assert (q.mean.std(0) > 0.01).all()
    expected = 0.5 * (q.mean.square() + 0.01 - math.log(0.01) - 1)
    torch.testing.assert_close(kl_to_standard(q), expected)
    assert (expected >= 1.80).all()
