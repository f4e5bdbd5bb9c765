"""The update with a first stage: when it switches, what each stage trains and logs, and whom it refuses."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from oracle import LinearGaussian, VectorBatch
from torch import Tensor

from latent.bound import ElboObjective, ElboTerms, Linear
from latent.training import JointUpdate, TrainState
from latent.training.pretraining import Pretrainable, PretrainedUpdate

NUM_STEPS = 3


class Order:
    """Two batches of three, for ever."""

    num_batches = 2

    def __getitem__(self, index: int) -> VectorBatch:
        generator = torch.Generator().manual_seed(index % 2)
        return VectorBatch(torch.randn(3, 5, generator=generator, dtype=torch.float64), torch.arange(3))


class Staged(LinearGaussian):
    """Pretrains one weight of its own to 1; initialising sets another to the number of examples that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.second = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.seeds: list[int] = []
        self.held: list[list[int]] = []

    def pretraining_loss(self, batch: VectorBatch) -> Tensor:
        return (self.first - 1).square().expand(len(batch))

    def initialise(self, batches: Iterator[VectorBatch], seed: int) -> Tensor:
        self.seeds.append(seed)
        with torch.no_grad():
            self.second.fill_(sum(len(batch) for batch in batches))
        return torch.tensor([5, 6, 7])

    def held_terms(self, batch: VectorBatch, clusters: Tensor, num_samples: int, *, path_gradient: bool) -> ElboTerms:
        self.held.append(clusters.tolist())
        terms = self(batch, num_samples, path_gradient=path_gradient)
        return replace(terms, kl=terms.kl + self.second)


def fresh(model: LinearGaussian) -> TrainState:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
    return TrainState(model, optimizer, Accelerator(cpu=True), type(model))


def stepped(update: PretrainedUpdate | JointUpdate, state: TrainState, num_steps: int) -> list[dict[str, float]]:
    rows = []
    for _ in range(num_steps):
        torch.manual_seed(state.step)
        for group in state.optimizer.param_groups:
            group["lr"] = 0.01
        rows.append({name: float(value) for name, value in update(state, Order(), ElboObjective()).items()})
        state.step += 1
    return rows


def test_the_first_stage_trains_what_its_loss_reaches_at_its_own_rate() -> None:
    state, before = fresh(Staged()), Staged().w
    rows = stepped(PretrainedUpdate(steps=NUM_STEPS, learning_rate=0.2), state, NUM_STEPS)
    assert state.model.first.item() == pytest.approx(NUM_STEPS * 0.2, rel=0.1)  # Adam's first steps are its rate
    assert state.model.second == 0
    assert torch.equal(state.model.w, before)
    assert [row["loss"] for row in rows] == pytest.approx([1.0, 0.64, 0.36], rel=0.1)
    assert all(row["kl_weight"] == row["kl"] == 0 and row["weight"] == 1 for row in rows)


def test_the_first_stage_has_its_own_schedule() -> None:
    state = fresh(Staged())
    falling = Linear(start=1.0, end=0.0, steps=2)
    stepped(PretrainedUpdate(steps=NUM_STEPS, learning_rate=0.2, learning_rate_schedule=falling), state, NUM_STEPS)
    assert state.model.first.item() == pytest.approx(0.2 + 0.1, rel=0.1)


def test_the_second_stage_is_the_joint_update_from_fresh_moments() -> None:
    state, other = fresh(Staged()), fresh(Staged())
    update = PretrainedUpdate(steps=NUM_STEPS, max_gradient_norm=2.0)
    stepped(update, state, NUM_STEPS)
    other.model.load_state_dict(state.model.state_dict() | {"second": torch.tensor(6.0)})
    other.step = NUM_STEPS
    rows = stepped(update, state, 2)
    assert len(state.model.seeds) == 1
    assert state.model.second == 6  # one epoch of examples
    torch.manual_seed(NUM_STEPS)
    torch.randint(2**31, ())  # the seed drawn for initialising
    first = JointUpdate(max_gradient_norm=2.0)(other, Order(), ElboObjective())
    assert rows[0]["elbo"] == float(first["elbo"])
    assert rows[0].keys() == first.keys()
    assert rows[0]["kl_weight"] == 1
    assert state.optimizer.state[state.model.w]["step"] == 2
    assert state.model.first not in state.optimizer.state  # the bound does not reach it: its moments are gone


def test_clusters_are_held_for_so_many_steps_and_then_let_go() -> None:
    state, plain = fresh(Staged()), fresh(Staged())
    update = PretrainedUpdate(steps=NUM_STEPS, held_steps=2)
    held = stepped(update, state, NUM_STEPS + 2)[NUM_STEPS:]
    assert state.model.held == [[5, 6, 7]] * 2  # by the examples' indices
    assert state.clusters is not None
    assert [row["kl_weight"] for row in held] == [1, 1]
    assert held[0]["kl"] == pytest.approx(stepped(replace(update, held_steps=0), plain, NUM_STEPS + 1)[-1]["kl"] + 6)
    stepped(update, state, 1)
    assert len(state.model.held) == 2
    assert state.clusters is None


def test_what_initialising_draws_is_a_function_of_the_seed_and_the_step() -> None:
    states = [fresh(Staged()) for _ in range(2)]
    for state in states:
        stepped(PretrainedUpdate(steps=NUM_STEPS), state, NUM_STEPS + 1)
    assert states[0].model.seeds == states[1].model.seeds


def test_schedules_count_the_steps_of_both_stages() -> None:
    state = fresh(Staged())
    state.step = 10
    found = PretrainedUpdate(steps=5)(state, Order(), ElboObjective(kl_weight=Linear(steps=20)))
    assert found["kl_weight"] == 0.5
    assert state.model.seeds == []


@pytest.mark.parametrize("step", [0, NUM_STEPS])
def test_a_model_without_a_first_stage_is_refused_by_the_name_of_the_key(step: int) -> None:
    assert isinstance(Staged(), Pretrainable)
    state = fresh(LinearGaussian())
    state.step = step
    with pytest.raises(
        ValueError, match=r"update\.kind: pretrained .* LinearGaussian has none; set update\.kind=joint"
    ):
        PretrainedUpdate(steps=NUM_STEPS)(state, Order(), ElboObjective())
