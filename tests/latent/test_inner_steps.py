"""Semi-amortised training: the gradient through the inner steps, against the unrolled graph and finite differences."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from oracle import LinearGaussian, VectorBatch
from torch import Tensor, nn
from torch.distributions import Distribution

from latent.bound import ElboObjective, LatentModel
from latent.distributions import diagonal_normal
from latent.distributions.flow_heads import IafHeadConfig
from latent.machine.kernels import twice_differentiable
from latent.training import JointUpdate, TrainState
from latent.training.inner_steps import InnerSteps, Parts
from latent.training.semi_amortized import SemiAmortizedUpdate

STEPS = InnerSteps(num_steps=4, learning_rate=0.1, momentum=0.5, max_gradient_norm=1e9)


def unrolled(steps: InnerSteps, loss: Callable[[Parts], Tensor], start: Parts) -> Parts:
    """The same with all of it in one graph: the second implementation."""
    at, velocity = start, tuple(torch.zeros_like(each) for each in start)
    for _ in range(steps.num_steps):
        gradient = torch.autograd.grad(loss(at), at, create_graph=True)
        norms = [each.flatten(1).norm(dim=1, keepdim=True) for each in gradient]
        clipped = [
            g * (steps.max_gradient_norm / (n + 1e-6)).clamp(max=1) for g, n in zip(gradient, norms, strict=True)
        ]
        velocity = tuple(steps.momentum * v - g for v, g in zip(velocity, clipped, strict=True))
        at = tuple(x + steps.learning_rate * v for x, v in zip(at, velocity, strict=True))
    return at


class Learned(LinearGaussian):
    """The linear-Gaussian model with an encoder that is learned, and dropout of what the decoder makes."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__(orthogonal=False)
        torch.manual_seed(1)
        self.encoder = nn.Linear(5, 6).double()
        self.dropout = nn.Dropout(dropout)

    def posterior(self, batch: VectorBatch) -> Distribution:
        mean, log_scale = self.encoder(batch.x).chunk(2, -1)
        return diagonal_normal(mean, (0.3 * log_scale).exp())

    def log_likelihood(self, z: Tensor, batch: VectorBatch) -> Tensor:
        return super().log_likelihood(self.dropout(z), batch)


class Order:
    """The same six examples each time."""

    num_batches = 1

    def __getitem__(self, index: int) -> VectorBatch:
        return LinearGaussian().draw(6)


def state_of(model: LatentModel[VectorBatch]) -> TrainState:
    return TrainState(model, torch.optim.SGD(model.parameters(), lr=1.0), Accelerator(cpu=True), lambda: model)


def of_update(model: Learned, batch: VectorBatch, update: SemiAmortizedUpdate) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and its gradient by each weight."""
    torch.manual_seed(3)
    model.zero_grad()
    loss = update._loss(state_of(model), batch, ElboObjective(num_samples=2)).value
    loss.backward()
    return loss.detach(), {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("norm", [1e9, 2.0])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_the_whole_gradient_is_that_of_finite_differences(norm: float, dropout: float) -> None:
    """Of the loss at λ_K as a function of the encoder and the decoder, with the noise of each step held."""
    model, batch = Learned(dropout), LinearGaussian().draw(6)
    update = SemiAmortizedUpdate(inner_steps=4, inner_learning_rate=0.05, max_inner_gradient_norm=norm)
    _, gradients = of_update(model, batch, update)
    assert set(gradients) == {"w", "encoder.weight", "encoder.bias"}
    for name, weight in model.named_parameters():
        for place in [0, weight.numel() // 2, weight.numel() - 1]:
            values = []
            for change in (1e-5, -1e-5):
                with torch.no_grad():
                    weight.view(-1)[place] += change
                values.append(of_update(model, batch, update)[0].item())
                with torch.no_grad():
                    weight.view(-1)[place] -= change
            slope = (values[0] - values[1]) / 2e-5
            assert gradients[name].view(-1)[place].item() == pytest.approx(slope, rel=1e-5, abs=1e-7), (name, place)


@pytest.mark.parametrize("norm", [1e9, 1.5])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_the_gradient_is_that_of_the_unrolled_graph(norm: float, momentum: float) -> None:
    steps = replace(STEPS, max_gradient_norm=norm, momentum=momentum)
    weight = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    start = tuple(torch.randn(4, size, dtype=torch.float64, requires_grad=True) for size in (3, 2))
    ways = torch.randn(4, 3).double(), torch.randn(4, 2).double()

    def loss(at: Parts) -> Tensor:
        noise = torch.randn(4, 3, dtype=torch.float64)
        return (torch.tanh((at[0] + noise) @ weight)[:, :2] * at[1].exp()).square().sum() + at[0].square().sum()

    found = []
    for down in (lambda: steps.down(loss, start, [weight])[0], lambda: unrolled(steps, loss, start)):
        torch.manual_seed(0)
        end = down()
        after = torch.rand(())
        total = sum((way * each).sum() for way, each in zip(ways, end, strict=True)) + weight.sum()
        found.append([*end, after, *torch.autograd.grad(total, [*start, weight])])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_the_backward_pass_leaves_the_random_numbers_alone() -> None:
    model, batch = Learned(0.4), LinearGaussian().draw(6)
    torch.manual_seed(0)
    loss = SemiAmortizedUpdate(inner_steps=2)._loss(state_of(model), batch, ElboObjective()).value
    before = torch.get_rng_state()
    loss.backward()
    assert torch.equal(torch.get_rng_state(), before)


def test_an_example_s_path_does_not_hang_on_its_batch() -> None:
    def ends(rows: Tensor) -> Tensor:
        start = (centre[rows].requires_grad_(),)
        steps = replace(STEPS, max_gradient_norm=0.7)
        return steps.down(lambda at: (at[0] ** 4 / 4 * scale[rows]).sum(), start, [])[0][0].detach()

    centre, scale = torch.randn(5, 3).double(), torch.rand(5, 1).double() + 1
    torch.testing.assert_close(ends(torch.arange(5))[1:2], ends(torch.tensor([1])))


def test_the_paths_go_down_and_the_bound_comes_nearer_to_the_best() -> None:
    model, batch = Learned(), LinearGaussian().draw(200)
    losses = []
    for steps in (1, 5, 20):
        update = SemiAmortizedUpdate(inner_steps=steps, max_inner_gradient_norm=1e9)
        losses.append(of_update(model, batch, update)[0].item())
        found = update._loss(state_of(model), batch, ElboObjective(num_samples=8))
        assert found.logged["refinement_gain"] > 0
    assert losses[0] > losses[1] > losses[2]


def test_with_vanishing_steps_it_is_the_joint_update() -> None:
    """Of a bound without noise, the KL alone: the weights move as they do with the plain update."""

    class KlAlone(Learned):
        def log_likelihood(self, z: Tensor, batch: VectorBatch) -> Tensor:
            return 0.0 * super().log_likelihood(z, batch)

    moved = []
    for update in (JointUpdate(), SemiAmortizedUpdate(inner_steps=3, inner_learning_rate=1e-14)):
        state = state_of(KlAlone())
        row = update(state, Order(), ElboObjective())
        moved.append([row["loss"], *state.model.parameters()])
    for one, other in zip(*moved, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-13)


def test_the_weights_of_a_flow_are_trained_through_its_refinement() -> None:
    class WithFlow(LinearGaussian):
        def __init__(self) -> None:
            super().__init__(orthogonal=False)
            torch.manual_seed(0)
            self.head = IafHeadConfig(length=2, hidden_size=8, context_size=3).build(5, 3).double()

        def posterior(self, batch: VectorBatch) -> Distribution:
            return self.head(batch.x)

    model = WithFlow()
    SemiAmortizedUpdate(inner_steps=2)._loss(state_of(model), model.draw(6), ElboObjective()).value.backward()
    assert all(each.grad is not None and each.grad.any() for _, each in model.named_parameters())


def second(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """A gradient of a gradient, by the input and by the weights."""
    with twice_differentiable():
        found = layer(x)
        value = (found[0] if isinstance(found, tuple) else found).square().sum()
        (gradient,) = torch.autograd.grad(value, x, create_graph=True)
        return list(torch.autograd.grad(gradient.pow(3).sum(), [x, *layer.parameters()]))


class Attention(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        q = super().forward(x).unsqueeze(1)
        return F.scaled_dot_product_attention(q, q, q, is_causal=True)


@pytest.mark.parametrize("kind", ["lstm", "gru", "attention"])
def test_fused_kernels_in_float32_have_the_second_derivative_of_the_plain_ones(kind: str) -> None:
    """OneDNN's LSTM on a CPU, and what stands in for those that have none; float64 runs none of them."""
    torch.manual_seed(0)
    build = {"lstm": nn.LSTM, "gru": nn.GRU, "attention": Attention}[kind]
    layer, x = build(4, 4), torch.randn(3, 5, 4)
    single = second(layer, x.clone().requires_grad_())
    double = second(layer.double(), x.double().requires_grad_())
    for one, other in zip(single, double, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


def test_a_model_whose_posterior_is_not_free_is_refused() -> None:
    class WithoutZ(LinearGaussian):
        def __init__(self) -> None:
            super().__init__()
            self.latent_size = 0

    with pytest.raises(ValueError, match="WithoutZ has none; use joint"):
        SemiAmortizedUpdate().check(WithoutZ())
    SemiAmortizedUpdate().check(Learned())
