"""Aggressive inference: who is stepped when, when the inner steps and the phase end, what it logs and carries."""

import itertools

import pytest
import torch
from accelerate import Accelerator
from oracle import VectorBatch
from torch import Tensor, nn
from torch.distributions import Distribution

from latent.bound import ElboObjective, LatentModel, MinimumRate
from latent.distributions import diagonal_normal
from latent.training import JointUpdate, TrainState
from latent.training.aggressive import AggressiveUpdate, frozen

ENCODER = {"encoder.weight", "encoder.bias", "log_scale"}


class Small(LatentModel[VectorBatch]):
    """A linear encoder and decoder, and a learned mean of the prior; it remembers which batches it was given."""

    latent_size = 2

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder = nn.Linear(5, 2).double(), nn.Linear(2, 5).double()
        self.log_scale = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.prior_mean = nn.Parameter(torch.full((2,), 0.5, dtype=torch.float64))
        self.seen: list[int] = []

    def posterior(self, batch: VectorBatch) -> Distribution:
        mean = self.encoder(batch.x)
        return diagonal_normal(mean, self.log_scale.exp().expand_as(mean))

    def prior(self, batch: VectorBatch) -> Distribution:
        mean = self.prior_mean.expand(len(batch), -1)
        return diagonal_normal(mean, torch.ones_like(mean))

    def log_likelihood(self, z: Tensor, batch: VectorBatch) -> Tensor:
        self.seen.append(int(batch.indices[0]))
        return -(batch.x - self.decoder(z)).square().sum(-1)


class Order:
    """Seven batches of four; `indices` begin with the batch's number in the endless order."""

    num_batches = 7

    def __getitem__(self, index: int) -> VectorBatch:
        generator = torch.Generator().manual_seed(index % 7)
        x = torch.randn(4, 5, generator=generator, dtype=torch.float64)
        return VectorBatch(x, torch.arange(index, index + 4))


def fresh() -> TrainState:
    model = Small()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.1)
    return TrainState(model, optimizer, Accelerator(cpu=True), Small)


def weights(state: TrainState) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.model.named_parameters()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def stepped(state: TrainState, update: AggressiveUpdate | JointUpdate, num_steps: int) -> list[dict[str, float]]:
    rows = []
    for _ in range(num_steps):
        torch.manual_seed(state.step)
        rows.append({name: float(value) for name, value in update(state, Order(), ElboObjective()).items()})
        state.step += 1
    return rows


def test_the_encoder_is_what_a_draw_of_the_posterior_depends_on() -> None:
    model = Small()
    found = {id(parameter) for parameter in model.encoder_parameters(Order()[0])}
    assert {name for name, parameter in model.named_parameters() if id(parameter) in found} == ENCODER


class Watched(torch.optim.AdamW):
    """Remembers, for each step, which parameters it changed."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), lr=0.02, weight_decay=0.1)
        self.model, self.steps = model, []

    def step(self, closure: None = None) -> None:
        before = {name: value.detach().clone() for name, value in self.model.named_parameters()}
        super().step(closure)
        self.steps.append(changed(before, dict(self.model.named_parameters())))


def test_inner_steps_move_the_encoder_alone_and_the_outer_one_the_rest_alone() -> None:
    """Bit for bit: neither left-over gradients nor weight decay nor moments reach the other half."""
    state = fresh()
    state.optimizer = Watched(state.model)
    (row,) = stepped(state, AggressiveUpdate(max_inner_steps=4, compare_every=2), 1)
    rest = set(weights(state)) - ENCODER
    assert state.optimizer.steps == [ENCODER] * (len(state.optimizer.steps) - 1) + [rest]
    assert row["cost"] == len(state.optimizer.steps)
    assert all(parameter.requires_grad for parameter in state.model.parameters())


def test_inner_steps_begin_with_the_step_s_own_batch_and_draw_others_of_its_epoch() -> None:
    state = fresh()
    state.step = 16  # in the third epoch of seven batches
    stepped(state, AggressiveUpdate(max_inner_steps=60, compare_every=100), 1)
    seen = state.model.seen
    assert (len(seen), seen[0], seen[-1]) == (61, 16, 16)
    assert set(seen) == set(range(14, 21))


def test_each_of_several_batches_a_step_goes_its_own_way_through_its_epoch() -> None:
    state = fresh()
    state.batches_per_step, state.step = 3, 2  # numbers 6, the last of its epoch, 7 and 8
    (row,) = stepped(state, AggressiveUpdate(max_inner_steps=60, compare_every=100), 1)
    ways = [state.model.seen[place::3] for place in range(3)]
    assert [(way[0], way[-1], len(way)) for way in ways] == [(6, 6, 61), (7, 7, 61), (8, 8, 61)]
    assert [set(way) for way in ways] == [set(range(7)), set(range(7, 14)), set(range(7, 14))]
    assert len({tuple(number % 7 for number in way[1:-1]) for way in ways}) == 3
    assert row["cost"] == 61


@pytest.mark.parametrize("num_batches", [1, 4])
def test_inner_steps_end_where_the_loss_has_risen_since_the_comparison_before(num_batches: int) -> None:
    """The batches drawn decide: their loss is their number."""

    class Counting(Small):
        def log_likelihood(self, z: Tensor, batch: VectorBatch) -> Tensor:
            return super().log_likelihood(z, batch) * 0 - 1000.0 * batch.indices[0]

    state = fresh()
    state.model, state.batches_per_step = Counting(), num_batches
    state.optimizer = torch.optim.AdamW(state.model.parameters(), lr=0.0)
    stepped(state, AggressiveUpdate(max_inner_steps=99, compare_every=3), 1)
    inner, of_three = state.model.seen[:-num_batches], 3 * num_batches
    sums = [sum(inner[i : i + of_three]) for i in range(0, len(inner), of_three)]
    assert len(inner) % of_three == 0
    assert len(inner) < 99 * num_batches
    assert sums[-1] > sums[-2]
    assert all(later <= earlier for earlier, later in itertools.pairwise(sums[:-1]))


def test_the_phase_ends_for_good_with_the_first_fall_of_the_mutual_information() -> None:
    state, update = fresh(), AggressiveUpdate(max_inner_steps=2)
    phases = []
    for information in (-0.01, 0.5, 0.5, 0.4, 9.0):
        update.after_validation(state, {"mutual_information": information})
        phases.append(stepped(state, update, 1)[0]["cost"] > 1)
    assert phases == [True, True, True, False, False]


def test_after_the_phase_a_step_is_the_joint_one() -> None:
    state, other, update = fresh(), fresh(), AggressiveUpdate(max_inner_steps=2, max_gradient_norm=0.5)
    for information in (1.0, 0.5):
        update.after_validation(state, {"mutual_information": information})
    (row,) = stepped(state, update, 1)
    (joint,) = stepped(other, JointUpdate(max_gradient_norm=0.5), 1)
    assert row == {**joint, "cost": 1.0}
    assert not changed(weights(state), weights(other))


def test_the_objective_s_feedback_moves_with_the_outer_step_alone() -> None:
    state = fresh()
    objective = ElboObjective(controller=MinimumRate(target=100.0, start=0.5, rate=0.001))
    row = AggressiveUpdate(max_inner_steps=5)(state, Order(), objective)
    outer = 0.01 * (100.0 - float(row["kl"])) ** 2  # one move, from the KL of the outer step
    assert float(state.feedback["multiplier_square"]) == pytest.approx(outer)


def test_what_was_frozen_already_stays_so() -> None:
    model = Small()
    model.decoder.bias.requires_grad_(False)
    with frozen(model.decoder.parameters()):
        assert not any(parameter.requires_grad for parameter in model.decoder.parameters())
    assert (model.decoder.weight.requires_grad, model.decoder.bias.requires_grad) == (True, False)
