"""The reward for the information within a batch: against its definition, against the truth, and by its gradient."""

import math

import pytest
import torch
from oracle import LinearGaussian
from torch import Tensor

from latent.bound import Constant, ElboObjective, ElboTerms, Information
from latent.distributions import Kl, diagonal_normal


def terms_of(mean: Tensor, scale: Tensor, num_samples: int = 1) -> ElboTerms:
    q = diagonal_normal(mean, scale)
    z = q.rsample((num_samples,))
    zeros = torch.zeros(num_samples, len(mean), dtype=mean.dtype)
    kl = Kl(zeros[0], None, closed_form=False)
    return ElboTerms(zeros, zeros, q.log_prob(z), kl.total, None, False, z, posterior=q)


def test_it_is_its_definition() -> None:
    torch.manual_seed(0)
    terms = terms_of(torch.randn(5, 3).double(), torch.rand(5, 3).double() + 0.3, 2)
    expected = 0.0
    for z in terms.z:
        for i in range(5):
            densities = [terms.posterior.log_prob(z[i].expand(5, 3))[j].exp() for j in range(5)]
            expected += (densities[i].log() - (sum(densities) / 5).log()).item() / 10
    assert Information(weight=1.0)(terms).item() == pytest.approx(expected)


def test_posteriors_far_apart_have_all_of_it_and_equal_ones_none() -> None:
    apart = terms_of(100.0 * torch.arange(8.0).double()[:, None], torch.ones(8, 1).double())
    assert Information(weight=1.0)(apart).item() == pytest.approx(math.log(8))
    equal = terms_of(torch.zeros(8, 2).double(), torch.ones(8, 2).double(), 3)
    assert Information(weight=1.0)(equal).item() == pytest.approx(0.0, abs=1e-12)
    alone = terms_of(torch.zeros(1, 2).double(), torch.ones(1, 2).double())
    assert Information(weight=1.0)(alone).item() == pytest.approx(0.0, abs=1e-12)


def test_a_large_batch_has_nearly_the_exact_information() -> None:
    model = LinearGaussian(slack=1.2)
    torch.manual_seed(0)
    terms = model(model.draw(2000))
    assert Information(weight=1.0)(terms).item() == pytest.approx(model.mutual_information(), abs=0.1)


def test_the_objective_rewards_it_and_leaves_the_bound_as_it_is() -> None:
    model = LinearGaussian(slack=1.2)
    terms = model(model.draw(20))
    plain, rewarded = ElboObjective(), ElboObjective(information=Information(weight=0.9))
    found = rewarded(terms, 0)
    information = float(found.logged["information"])
    assert found.value.item() == pytest.approx(plain(terms, 0).value.item() - 0.9 * information)
    assert {k: v for k, v in found.logged.items() if k not in ("loss", "information")} == {
        k: v for k, v in plain(terms, 0).logged.items() if k != "loss"
    }


def test_with_all_of_it_rewarded_what_is_left_of_the_kl_is_that_of_the_posteriors_together() -> None:
    """KL − I = KL(q_agg ‖ p), of which the oracle knows the truth."""
    model = LinearGaussian(slack=1.2)
    torch.manual_seed(0)
    terms = model(model.draw(2000))
    objective = ElboObjective(information=Information(weight=1.0), kl_weight=Constant(value=1.0))
    rate = objective(terms, 0).value + terms.log_likelihood.mean()
    assert rate.item() == pytest.approx(model.marginal_kl(), abs=0.15)


def test_its_gradient_tells_equal_posteriors_apart() -> None:
    torch.manual_seed(0)
    mean = (0.01 * torch.randn(6, 2)).double().requires_grad_()
    for _ in range(200):
        (gradient,) = torch.autograd.grad(Information(weight=1.0)(terms_of(mean, torch.ones(6, 2).double())), mean)
        mean = (mean + gradient).detach().requires_grad_()
    assert Information(weight=1.0)(terms_of(mean, torch.ones(6, 2).double(), 50)).item() > 0.8


def test_a_z_without_a_posterior_is_refused() -> None:
    zeros = torch.zeros(1, 2)
    terms = ElboTerms.of(zeros[..., None], zeros, zeros, zeros, Kl(zeros[0], None, closed_form=False))
    with pytest.raises(ValueError, match=r"set objective\.information=null"):
        ElboObjective(information=Information(weight=1.0))(terms, 0)
