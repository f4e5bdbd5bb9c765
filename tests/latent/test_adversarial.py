"""The adversarial update: whom each of its two steps moves, by which gradient, and where it leads."""

import math
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from oracle import VectorBatch
from torch import Tensor
from torch.distributions import Distribution

from latent.bound import Constant, ElboObjective, ElboTerms, LatentModel
from latent.distributions import diagonal_normal, standard_normal
from latent.training import TrainState
from latent.training.adversarial import AdversarialUpdate

UNWEIGHTED = ElboObjective(kl_weight=Constant(value=0.0))


class Shifted(LatentModel[VectorBatch]):
    """A posterior N(shift, scale²) that no x moves, and a likelihood that no z moves."""

    latent_size = 2

    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.nn.Parameter(torch.full((2,), 3.0, dtype=torch.float64))
        self.log_scale = torch.nn.Parameter(torch.full((2,), -1.0, dtype=torch.float64))

    def posterior(self, batch: VectorBatch) -> Distribution:
        mean = self.shift.expand(len(batch), -1)
        return diagonal_normal(mean, self.log_scale.exp().expand_as(mean))

    def prior(self, batch: VectorBatch) -> Distribution:
        return standard_normal(len(batch), 2, self.shift)

    def log_likelihood(self, z: Tensor, batch: VectorBatch) -> Tensor:
        return torch.zeros_like(z[..., 0])


class Order:
    """Batches of 200 examples of nothing."""

    num_batches = 1

    def __getitem__(self, index: int) -> VectorBatch:
        return VectorBatch(torch.zeros(200, 1, dtype=torch.float64), torch.arange(200), weight=0.5)


def fresh(update: AdversarialUpdate, rate: float = 0.05) -> TrainState:
    torch.manual_seed(0)
    model = Shifted()
    state = TrainState(model, torch.optim.SGD(model.parameters(), lr=rate), Accelerator(cpu=True), Shifted)
    update.prepare(state)
    return state


def copied(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def test_the_model_is_moved_by_what_fools_the_discriminator_and_by_nothing_else() -> None:
    """Its step is that of the objective and −λ log D(z) alone, D held as it was."""
    update = AdversarialUpdate(weight=2.0, hidden_size=16, max_gradient_norm=1e9)
    state, other = fresh(update), fresh(update)
    torch.manual_seed(1)
    row = update(state, Order(), UNWEIGHTED)
    torch.manual_seed(1)
    terms = other.model(Order()[0])
    caught = -torch.sigmoid(other.adversary.module(terms.z)).log().mean()
    (0.5 * 2.0 * caught).backward()  # 0.5 is the batch's weight
    for name, parameter in other.model.named_parameters():
        moved = parameter.detach() - 0.05 * parameter.grad
        torch.testing.assert_close(dict(state.model.named_parameters())[name].detach(), moved)
    assert float(row["adversary"]) == pytest.approx(caught.item())
    assert float(row["loss"]) == pytest.approx(2.0 * caught.item())


def test_the_discriminator_s_step_leaves_the_model_bit_equal_and_has_its_own_gradient() -> None:
    """With a model that does not learn: D goes down −log D(prior) − log(1 − D(z)) by its own Adam."""
    update = AdversarialUpdate(hidden_size=16, learning_rate=0.01)
    state, other = fresh(update, rate=0.0), fresh(update)
    before, weights = copied(state.model), copied(state.adversary.module)
    torch.manual_seed(1)
    row = update(state, Order(), UNWEIGHTED)
    after = copied(state.model)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    torch.manual_seed(1)
    terms = other.model(Order()[0])
    drawn, module = terms.prior.sample((1,)), other.adversary.module
    error = -torch.sigmoid(module(drawn)).log().mean() - (1 - torch.sigmoid(module(terms.z.detach()))).log().mean()
    error.backward()
    for name, parameter in module.named_parameters():
        step = copied(state.adversary.module)[name] - weights[name]
        large = parameter.grad.abs() > 1e-4
        torch.testing.assert_close(step[large], -0.01 * parameter.grad.sign()[large], rtol=1e-3, atol=0)  # Adam's first
    assert float(row["discriminator"]) == pytest.approx(error.item())
    assert all(parameter.requires_grad for parameter in state.adversary.module.parameters())


def test_the_posteriors_come_to_the_prior() -> None:
    update = AdversarialUpdate(weight=1.0, hidden_size=32, learning_rate=0.01)
    state = fresh(update, rate=0.1)
    for step in range(600):
        torch.manual_seed(step)
        row = update(state, Order(), UNWEIGHTED)
        state.step += 1
    assert state.model.shift.abs().max() < 0.5
    assert (state.model.log_scale.exp() - 1).abs().max() < 0.4
    assert float(row["discriminator"]) == pytest.approx(2 * math.log(2), abs=0.15)  # it cannot tell them apart


def test_the_bound_that_is_logged_has_no_discriminator_in_it() -> None:
    update = AdversarialUpdate(hidden_size=16)
    state = fresh(update, rate=0.0)
    row = update(state, Order(), UNWEIGHTED)
    kl = 0.5 * 2 * (9 + math.exp(-2.0) + 2.0 - 1)
    assert float(row["elbo"]) == pytest.approx(-kl)
    assert float(row["kl"]) == pytest.approx(kl)


def test_a_prior_that_cannot_be_drawn_from_is_refused() -> None:
    class WithoutPrior(Shifted):
        def terms(
            self, q: Distribution, batch: VectorBatch, num_samples: int = 1, *, path_gradient: bool = False
        ) -> ElboTerms:
            return replace(super().terms(q, batch, num_samples), prior=None)

    update = AdversarialUpdate(hidden_size=4)
    state = fresh(update)
    state.model = WithoutPrior()
    with pytest.raises(ValueError, match=r"update\.kind: adversarial: .* set update\.kind=joint"):
        update(state, Order(), UNWEIGHTED)
