"""Schedules by value, objectives by gradient."""

import math

import pytest
import torch
from oracle import LinearGaussian

from latent.bound import Constant, Cosine, Cyclical, ElboObjective, ElboTerms, Linear, Logistic
from latent.distributions import Kl


def terms_with_kl(per_dimension: torch.Tensor, log_likelihood: torch.Tensor) -> ElboTerms:
    zeros = torch.zeros_like(log_likelihood)
    z = torch.zeros(*log_likelihood.shape, per_dimension.shape[1])
    kl = Kl(per_dimension.sum(-1), per_dimension, closed_form=True)
    return ElboTerms.of(z, log_likelihood, zeros, zeros, kl)


def test_schedules_have_their_values() -> None:
    linear = Linear(start=0.1, end=0.9, steps=100, delay=10)
    assert [linear(t) for t in (0, 10, 60, 110, 10_000)] == pytest.approx([0.1, 0.1, 0.5, 0.9, 0.9])
    logistic = Logistic(midpoint=2500, rate=0.0025)
    assert logistic(2500) == 0.5
    for step in (0, 1000, 5000):
        assert logistic(step) == pytest.approx(1 / (1 + math.exp(-0.0025 * (step - 2500))))
    assert logistic(10**9) == 1.0
    cyclical = Cyclical(period=100, ramp=0.5, cycles=2)
    assert [cyclical(t) for t in (0, 25, 50, 99, 100, 125, 199, 200, 225)] == [0, 0.5, 1, 1, 0, 0.5, 1, 1, 1]
    cosine = Cosine(steps=110, warm_up=10, end=0.1)
    assert [cosine(t) for t in (0, 4, 9, 10, 60, 110, 10_000)] == pytest.approx([0.1, 0.5, 1, 1, 0.55, 0.1, 0.1])
    assert Cosine(steps=4)(1) == pytest.approx(0.5 + 0.5 * math.cos(math.pi / 4))
    with pytest.raises(ValueError, match=r"warm_up \(4\) must be less than steps \(4\)"):
        Cosine(steps=4, warm_up=4)
    assert Constant(value=0.4)(7) == 0.4


def test_the_plain_objective_is_the_negative_elbo() -> None:
    terms = LinearGaussian()(LinearGaussian().draw(20), 4)
    loss = ElboObjective()(terms, 0)
    torch.testing.assert_close(loss.value, -terms.elbo.mean())
    torch.testing.assert_close(loss.logged["elbo"], terms.elbo.mean().detach())


def test_the_kl_weight_is_the_derivative_by_the_kl_and_stays_out_of_the_logged_elbo() -> None:
    per_dimension = torch.rand(6, 3).requires_grad_()
    terms = terms_with_kl(per_dimension, torch.randn(2, 6))
    loss = ElboObjective(kl_weight=Constant(value=0.25))(terms, 0)
    (gradient,) = torch.autograd.grad(loss.value, per_dimension)
    torch.testing.assert_close(gradient, torch.full_like(gradient, 0.25 / 6))
    torch.testing.assert_close(loss.logged["elbo"], terms.elbo.mean().detach())


def test_free_bits_act_on_the_batch_mean_of_each_dimension() -> None:
    # dimension 0 is below on the mean though one sentence is above; dimension 1 is above
    per_dimension = torch.tensor([[0.9, 0.6], [0.0, 0.7]]).requires_grad_()
    terms = terms_with_kl(per_dimension, torch.zeros(1, 2))
    loss = ElboObjective(free_bits=0.5)(terms, 0)
    assert loss.value.item() == pytest.approx(0.5 + 0.65)
    (gradient,) = torch.autograd.grad(loss.value, per_dimension)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 0.5], [0.0, 0.5]]))
    assert loss.logged["kl"].item() == pytest.approx(1.1)  # the true KL, not the floor


def test_free_bits_need_a_kl_per_dimension() -> None:
    zeros = torch.zeros(1, 2)
    terms = ElboTerms.of(zeros[..., None], zeros, zeros, zeros, Kl(torch.zeros(2), None, closed_form=False))
    with pytest.raises(ValueError, match="free_bits"):
        ElboObjective(free_bits=0.5)(terms, 0)
    assert ElboObjective()(terms, 0).value.item() == 0.0


def test_one_draw_of_the_importance_bound_is_its_log_weight() -> None:
    model = LinearGaussian(orthogonal=False)
    terms = model(model.draw(9), 1)
    torch.testing.assert_close(terms.importance_weighted_bound(), terms.log_weight[0])
