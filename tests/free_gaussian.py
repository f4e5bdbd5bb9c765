"""The linear-Gaussian model with an encoder and a prior of its own, and estimates of its gradients."""

import torch
from oracle import LinearGaussian, VectorBatch
from torch import Tensor, nn
from torch.distributions import Distribution

from latent.bound import ElboObjective, IwaeObjective
from latent.distributions import diagonal_normal


class Free(LinearGaussian):
    """Encoder and prior with parameters of their own, which begin at the exact posterior and the standard normal."""

    def __init__(self) -> None:
        super().__init__()
        inverse = torch.linalg.inv(self.precision)
        matrix = (self.w @ inverse / self.s**2).detach()
        self.encoder = nn.Parameter(matrix)
        self.shift = nn.Parameter(-self.b @ matrix)
        self.log_scale = nn.Parameter(-0.5 * self.precision.diagonal().log().detach())
        self.prior_mean = nn.Parameter(torch.zeros(self.latent_size, dtype=torch.float64))

    def posterior(self, batch: VectorBatch) -> Distribution:
        mean = batch.x @ self.encoder + self.shift
        return diagonal_normal(mean, self.log_scale.exp().expand_as(mean))

    def prior(self, batch: VectorBatch) -> Distribution:
        mean = self.prior_mean.expand(len(batch), -1)
        return diagonal_normal(mean, torch.ones_like(mean))


def away_from_the_optimum() -> Free:
    model = Free()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(5)
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def repeated(model: LinearGaussian, num_rows: int) -> VectorBatch:
    """One example many times: the batch's mean is over independent draws of its bound."""
    x = model.draw(1, seed=3).x
    return VectorBatch(x.expand(num_rows, -1), torch.arange(num_rows))


def gradients(model: Free, objective: IwaeObjective | ElboObjective, num_repeats: int, rows: int) -> dict[str, Tensor]:
    """Independent estimates of the gradient by each parameter, every one the mean over `rows` draws."""
    found: dict[str, list[Tensor]] = {name: [] for name, _ in model.named_parameters()}
    batch = repeated(model, rows)
    for seed in range(num_repeats):
        torch.manual_seed(seed)
        terms = model(batch, objective.num_samples, path_gradient=objective.path_gradient)
        model.zero_grad()
        objective(terms, 0).value.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            found[name].append(parameter.grad.flatten())
    return {name: torch.stack(each) for name, each in found.items()}


def assert_same_expectation(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """Within 4.5 standard errors for each of some 40 parameters, where these errors are small beside the gradient."""
    for name in a:
        difference = a[name].mean(0) - b[name].mean(0)
        error = ((a[name].var(0) + b[name].var(0)) / len(a[name])).sqrt()
        assert (difference.abs() <= 4.5 * error + 1e-12).all(), name
        assert error.norm() < 0.1 * a[name].mean(0).norm(), name
