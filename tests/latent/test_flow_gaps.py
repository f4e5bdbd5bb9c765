"""What a flow is worth on the linear-Gaussian model, whose posterior is exact, and the measures of one."""

import math

import pytest
import torch
from oracle import LinearGaussian, VectorBatch
from torch.distributions import Distribution

from latent.distributions.flow_heads import (
    FlowHeadConfig,
    IafHeadConfig,
    PlanarHeadConfig,
    RadialHeadConfig,
    SylvesterHeadConfig,
)
from latent.measures.collapse import active_units, marginal_kl, mutual_information
from latent.measures.importance import importance_weighted
from latent.measures.split import encode_split

CPU = torch.device("cpu")
CONFIGS: dict[str, FlowHeadConfig] = {
    "planar": PlanarHeadConfig(length=3),
    "radial": RadialHeadConfig(length=3),
    "sylvester": SylvesterHeadConfig(length=2, num_columns=2),
    "iaf": IafHeadConfig(length=3, hidden_size=8, context_size=3),
}


class WithFlow(LinearGaussian):
    """The linear model with a posterior that is learned: the exact one is normal, and diagonal if W is orthogonal."""

    def __init__(self, config: FlowHeadConfig, *, orthogonal: bool) -> None:
        super().__init__(latent_size=2, orthogonal=orthogonal)
        torch.manual_seed(0)
        self.head = config.build(len(self.b), 2).double()
        if not orthogonal:  # two columns that are nearly one
            with torch.no_grad():
                self.w[:, 1] = 0.95 * self.w[:, 0] + 0.3 * self.w[:, 1]

    def posterior(self, batch: VectorBatch) -> Distribution:
        found: Distribution = self.head(batch.x - self.b)
        return found

    def diagonal_gap(self) -> float:
        """KL of the best diagonal normal: half of the log of the product of the precisions over their determinant."""
        return 0.5 * (self.precision.diagonal().log().sum() - torch.logdet(self.precision)).item()


def gap(config: FlowHeadConfig, *, orthogonal: bool) -> tuple[float, float, float]:
    """log p(x) − ELBO of a posterior after 600 steps, its standard error, and the least that a diagonal one has."""
    model = WithFlow(config, orthogonal=orthogonal)
    optimizer = torch.optim.Adam(model.head.parameters(), 0.02)
    batch = model.draw(128)
    for step in range(600):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 600)
        loss = -model(batch, 4).log_weight.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        gaps = model.marginal().log_prob(batch.x) - model(batch, 500).log_weight.mean(0)
    return gaps.mean().item(), (gaps.std() / math.sqrt(len(gaps))).item(), model.diagonal_gap()


@pytest.mark.parametrize(("name", "left"), [("radial", 0.95), ("planar", 0.6), ("sylvester", 0.45), ("iaf", 0.05)])
def test_a_flow_closes_the_gap_of_a_correlated_posterior(name: str, left: float) -> None:
    """The exact one is a linear image of the base, which `iaf` has in its family, and a tanh comes near to."""
    found, error, least = gap(CONFIGS[name], orthogonal=False)
    assert least == pytest.approx(1.01, abs=0.01)
    assert -3 * error < found < left * least - 2 * error


def test_the_best_diagonal_posterior_has_the_gap_that_the_formula_gives() -> None:
    model = WithFlow(CONFIGS["planar"], orthogonal=False)
    batch = model.draw(128)
    with torch.no_grad():
        found = model.terms(LinearGaussian.posterior(model, batch), batch, 2_000).log_weight.mean(0)
    gaps = model.marginal().log_prob(batch.x) - found
    assert gaps.mean().item() == pytest.approx(model.diagonal_gap(), abs=0.02)


@pytest.mark.parametrize("name", ["planar", "radial", "iaf"])
def test_a_flow_gains_nothing_where_the_exact_posterior_is_diagonal(name: str) -> None:
    found, error, least = gap(CONFIGS[name], orthogonal=True)
    assert least == pytest.approx(0, abs=1e-9)
    assert -3 * error < found < 0.03 + 3 * error


def test_the_measures_hold_for_a_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    model = WithFlow(CONFIGS["planar"], orthogonal=True)
    with torch.no_grad():
        model.head.step_parameters.weight.mul_(3)
    batch = model.draw(300)
    split = encode_split(model, [batch], CPU)
    exact = -model.marginal().log_prob(batch.x).mean().item()
    assert importance_weighted(model, [batch], CPU, 2_000).nll.mean().item() == pytest.approx(exact, abs=0.05)
    information = mutual_information(split.posterior, split.z)
    assert information.rows.tolist() == list(range(300))
    total = information.estimate.value + marginal_kl(split, information).estimate.value
    assert total == pytest.approx(split.sampled_kl.double().mean().item(), abs=1e-6)
    assert active_units(split.posterior.mean).count.value == 2
    monkeypatch.setattr(split.posterior.flow, "most_examples", 150)
    fewer = mutual_information(split.posterior, split.z)
    assert fewer.ceiling == pytest.approx(math.log(150))
    assert len(fewer.rows.unique()) == 150
    assert torch.equal(fewer.rows, mutual_information(split.posterior, split.z).rows)
    assert fewer.estimate.value == pytest.approx(
        information.estimate.value, abs=fewer.estimate.high - fewer.estimate.low
    )
    assert len(marginal_kl(split, fewer).values) == 150
