"""Flows against autograd's Jacobian, the integral of a density, their inverses and their own draws."""

import pytest
import torch

from latent.distributions import (
    FlowDistribution,
    NormalHeadConfig,
    concatenate,
    detach,
    device_of,
    factors,
    kl_divergence,
    log_prob,
    pairwise_log_prob,
    pairwise_most,
    prior_for,
    rsample_and_log_prob,
    standard_normal,
    take,
)
from latent.distributions.autoregressive import AutoregressiveStep, InvertedStep
from latent.distributions.flow_heads import (
    FlowHead,
    FlowHeadConfig,
    IafHeadConfig,
    PlanarHeadConfig,
    RadialHeadConfig,
    SylvesterHeadConfig,
)
from latent.distributions.flow_steps import PlanarStep, RadialStep, SylvesterStep, solve_bent
from latent.distributions.flows import FlowStep
from latent.distributions.priors import FlowPrior, FlowPriorConfig, VampPriorConfig

CPU = torch.device("cpu")
H, B = 6, 4
CONFIGS: dict[str, FlowHeadConfig] = {
    "planar": PlanarHeadConfig(length=3),
    "radial": RadialHeadConfig(length=3),
    "sylvester": SylvesterHeadConfig(length=2, num_columns=2),
    "iaf": IafHeadConfig(length=3, hidden_size=8, context_size=3),
}
EVERY_FLOW = pytest.mark.parametrize("config", [pytest.param(config, id=name) for name, config in CONFIGS.items()])


def steps(latent_size: int) -> dict[str, FlowStep]:
    torch.manual_seed(1)
    found = {
        "planar": PlanarStep(latent_size),
        "radial": RadialStep(latent_size),
        "sylvester": SylvesterStep(latent_size, 2),
        "square sylvester": SylvesterStep(latent_size, latent_size),
        "iaf": AutoregressiveStep(latent_size, 3, 8, "affine", is_reversed=True),
        "inverted spline": InvertedStep(AutoregressiveStep(latent_size, 0, 8, "spline", is_reversed=False)),
    }
    for step in found.values():
        step.double()
        for parameter in step.parameters():  # far from the identity
            torch.nn.init.normal_(parameter)
    return found


STEPS = [(size, name) for size in (2, 5) for name in steps(2)]


def flow_of(config: FlowHeadConfig, latent_size: int = 3, strength: float = 1.0) -> tuple[FlowHead, FlowDistribution]:
    """A head whose steps are far from the identity, and q of four examples."""
    torch.manual_seed(0)
    head = config.build(H, latent_size).double()
    with torch.no_grad():
        head.step_parameters.weight.normal_(std=strength)
        for parameter in head.flow.parameters():
            parameter.normal_(std=0.5 * strength)
    return head, head(torch.randn(B, H, dtype=torch.float64))


@pytest.mark.parametrize(("latent_size", "name"), STEPS)
@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
def test_the_log_determinant_is_the_jacobian_s(latent_size: int, name: str, scale: float) -> None:
    step = steps(latent_size)[name]
    parameters = scale * torch.randn(20, step.num_parameters, dtype=torch.float64)
    z = 2 * torch.randn(20, latent_size, dtype=torch.float64)
    image, log_det = step(z, parameters)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda z, own: step(z, own)[0]))(z, parameters)
    torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobian).logabsdet)
    assert log_det.std() > 1e-3
    found, again = step.inverse(image, parameters)
    torch.testing.assert_close(found, z, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(again, log_det, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("latent_size", "name"), STEPS)
def test_the_inverse_has_the_gradient_of_an_inverse(latent_size: int, name: str) -> None:
    """f⁻¹(f(z; θ); θ) = z whatever θ: its gradient in θ is 0 and in z the identity."""
    step = steps(latent_size)[name]
    parameters = torch.randn(3, step.num_parameters, dtype=torch.float64, requires_grad=True)
    z = torch.randn(3, latent_size, dtype=torch.float64, requires_grad=True)
    image = step(z, parameters)[0]
    found = step.inverse(image, parameters)[0]
    weights = torch.randn_like(z)
    by_z, *by_parameters = torch.autograd.grad(
        (weights * found).sum(), [z, parameters, *step.parameters()], allow_unused=step.num_parameters == 0
    )
    torch.testing.assert_close(by_z, weights, rtol=1e-6, atol=1e-6)
    for each in by_parameters[step.num_parameters == 0 :]:
        torch.testing.assert_close(each, torch.zeros_like(each), rtol=0, atol=1e-6)


def test_the_autoregressive_jacobian_is_triangular_and_reversed_orders_see_the_rest() -> None:
    for is_reversed in (False, True):
        torch.manual_seed(0)
        step = AutoregressiveStep(4, 3, 16, "affine", is_reversed=is_reversed).double()
        for parameter in step.parameters():
            torch.nn.init.normal_(parameter)
        context = torch.randn(3, dtype=torch.float64)
        jacobian = torch.func.jacrev(lambda z, c=context, of=step: of(z, c)[0])(torch.randn(4, dtype=torch.float64))
        lower = jacobian.tril() if not is_reversed else jacobian.triu()
        torch.testing.assert_close(lower, jacobian, atol=0, rtol=0)
        assert (lower != 0).sum() == 10


@pytest.mark.parametrize("strength", [20.0, 1e4])
def test_extreme_parameters_keep_planar_and_sylvester_steps_invertible_in_float32(strength: float) -> None:
    torch.manual_seed(0)
    for step in (PlanarStep(5), SylvesterStep(5, 3)):
        parameters = strength * torch.randn(200, step.num_parameters)
        image, log_det = step(torch.randn(200, 5), parameters)
        assert torch.isfinite(image).all()
        assert torch.isfinite(log_det).all()
    planar = torch.zeros(3, 11, requires_grad=True)  # w = 0: nothing is divided by 0
    image, log_det = PlanarStep(5)(torch.ones(3, 5), planar)
    torch.testing.assert_close(image, torch.ones(3, 5))
    (image.sum() + log_det.sum()).backward()
    assert torch.isfinite(planar.grad).all()


def test_the_bent_equation_is_solved_where_it_is_almost_flat() -> None:
    y = torch.linspace(-30, 30, 301, dtype=torch.float64)
    for c, d in ((-0.999999, 1.0), (0.5, 0.999), (50.0, 3.0), (-20.0, -4.0)):
        terms = [torch.full_like(y, value) for value in (c, d, 0.3)]
        t = solve_bent(y, *terms)
        torch.testing.assert_close(t + c * torch.tanh(d * t + 0.3), y, atol=1e-9, rtol=1e-12)


@EVERY_FLOW
def test_a_density_on_a_grid_sums_to_one(config: FlowHeadConfig) -> None:
    q = take(flow_of(config, 2, strength=0.5)[1], torch.tensor([0, 3]))
    line = torch.linspace(-14, 14, 561, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line).unsqueeze(1)
    with torch.no_grad():
        total = q.log_prob(grid).exp().sum(0) * (line[1] - line[0]) ** 2
    torch.testing.assert_close(total, torch.ones(2, dtype=torch.float64), atol=2e-3, rtol=0)
    assert (q.log_prob(grid) - log_prob(q.base, grid.expand(-1, 2, -1))).abs().max() > 0.1


@EVERY_FLOW
def test_own_draws_come_with_the_density_that_the_inverse_finds(config: FlowHeadConfig) -> None:
    _, q = flow_of(config)
    z, log_q = rsample_and_log_prob(q, 50)
    torch.testing.assert_close(log_q, log_prob(q, z), rtol=1e-6, atol=1e-6)
    torch.manual_seed(3)
    first = q.rsample((2,))
    torch.manual_seed(3)
    torch.testing.assert_close(first, rsample_and_log_prob(q, 2)[0], atol=0, rtol=0)
    assert rsample_and_log_prob(take(q, torch.arange(0)), 2)[1].shape == (2, 0)


@EVERY_FLOW
def test_identity_parameters_leave_the_base(config: FlowHeadConfig) -> None:
    head, _ = flow_of(config)
    with torch.no_grad():
        for each in (head.step_parameters.weight, head.step_parameters.bias):
            for rows, step in zip(each.split(head.flow.sizes), head.flow.steps, strict=True):
                rows[: step.num_strengths] = 0
        for name, parameter in head.flow.named_parameters():
            if ".hyper.4." in name:  # the last layer of an autoregressive step's network
                parameter.zero_()
    q = head(torch.randn(B, H, dtype=torch.float64))
    z, log_q = rsample_and_log_prob(q, 10)
    torch.testing.assert_close(log_q, log_prob(q.base, z))
    torch.testing.assert_close(log_prob(q, z + 1), log_prob(q.base, z + 1))
    torch.testing.assert_close(q.mean, q.base.mean)


@EVERY_FLOW
def test_a_head_begins_near_the_normal_one_whose_weights_it_has(config: FlowHeadConfig) -> None:
    torch.manual_seed(5)
    normal, after = NormalHeadConfig().build(H, 3), torch.rand(())
    torch.manual_seed(5)
    head, also_after = config.build(H, 3), torch.rand(())
    assert after == also_after  # what is made later begins with the same weights
    features = torch.randn(B, H)
    q, q_0 = head(features), normal(features)
    assert torch.equal(q.base.mean, q_0.mean)
    assert torch.equal(q.base.stddev, q_0.stddev)
    z, log_q = rsample_and_log_prob(q, 500)
    assert (log_q - log_prob(q_0, z)).abs().mean() < 0.1
    torch.testing.assert_close(q.mean, q_0.mean, atol=0.05, rtol=0)


@EVERY_FLOW
def test_every_parameter_learns_from_draws_and_from_their_density(config: FlowHeadConfig) -> None:
    head = config.build(H, 3).double()
    q = head(torch.randn(40, H, dtype=torch.float64))
    z, log_q = rsample_and_log_prob(q, 2)
    for what in (z.square().sum(), log_q.sum()):
        gradients = torch.autograd.grad(what, list(head.parameters()), retain_graph=True, allow_unused=True)
        for (name, _), gradient in zip(head.named_parameters(), gradients, strict=True):
            assert gradient is not None, name
            assert gradient.abs().sum() > 0, name


@EVERY_FLOW
def test_the_path_gradient_is_through_z_alone(config: FlowHeadConfig) -> None:
    """Of log q̄(z): its parameters held fixed by a copy of the head instead."""
    head, _ = flow_of(config, strength=0.5)
    features = torch.randn(B, H, dtype=torch.float64)
    torch.manual_seed(7)
    z, log_q = rsample_and_log_prob(head(features), 3, path_gradient=True)
    found = torch.autograd.grad(log_q.sum(), list(head.parameters()))
    copy = config.build(H, 3).double()
    copy.load_state_dict(head.state_dict())
    torch.manual_seed(7)
    again = head(features).rsample((3,))
    torch.testing.assert_close(again, z)
    score = torch.autograd.grad(log_prob(copy(features), z_fixed := z.detach().requires_grad_()).sum(), z_fixed)[0]
    expected = torch.autograd.grad((score * again).sum(), list(head.parameters()))
    for each, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(each, wanted, rtol=1e-5, atol=1e-7)


@EVERY_FLOW
def test_rows_are_joined_and_picked_and_pairs_are_all_pairs(config: FlowHeadConfig) -> None:
    head, q = flow_of(config)
    features = torch.randn(B, H, dtype=torch.float64)
    both = concatenate(q, head(features))
    rows = torch.tensor([5, 0, 7])
    z = torch.randn(6, 3, dtype=torch.float64)
    found = pairwise_log_prob(take(both, rows), z)
    expected = torch.stack([log_prob(take(both, row.unsqueeze(0)), z.unsqueeze(1))[:, 0] for row in rows], 1)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(concatenate(q, head(features)).mean[4:], head(features).mean)
    assert factors(q) is None
    assert device_of(q) == CPU
    assert pairwise_most(q) == (300 if config.kind == "iaf" else 1_000)
    assert not rsample_and_log_prob(detach(q), 1)[1].requires_grad
    p = standard_normal(B, 3, z)
    assert not kl_divergence(q, p, torch.zeros(1, B)).closed_form


@EVERY_FLOW
def test_moments_are_those_of_many_draws(config: FlowHeadConfig) -> None:
    _, q = flow_of(config, strength=0.3)
    with torch.no_grad():
        z = q.sample((40_000,))
        spread = z.std(0)
        assert ((q.mean - z.mean(0)).abs() / spread).max() < 0.1
        torch.testing.assert_close(q.stddev, spread, rtol=0.12, atol=0)
        moved = (q.mean - q._moved(q.base.mean)[0]).abs() / spread
    assert moved.max() > 1e-4  # the image of the mean is another thing


@pytest.mark.parametrize("transform", ["maf", "nsf"])
def test_a_flow_prior_is_a_density_that_begins_near_the_standard_normal(transform: str) -> None:
    torch.manual_seed(0)
    prior: FlowPrior = FlowPriorConfig(transform=transform, length=2, hidden_size=8).build(2).double()
    z = 2 * torch.randn(7, 3, 2, dtype=torch.float64)
    torch.testing.assert_close(log_prob(prior(3), z), log_prob(standard_normal(3, 2, z), z), atol=0.2, rtol=0.02)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.normal_(std=0.4)
    line = torch.linspace(-20, 20, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line).unsqueeze(1)
    with torch.no_grad():
        total = log_prob(prior(1), grid).exp().sum() * (line[1] - line[0]) ** 2
    assert total.item() == pytest.approx(1.0, abs=0.01)
    drawn, log_p = rsample_and_log_prob(prior(3), 4)
    torch.testing.assert_close(log_prob(prior(3), drawn), log_p, rtol=1e-6, atol=1e-6)
    assert not prior(3).sample((2,)).requires_grad
    assert log_prob(prior(0), z[:, :0]).shape == (7, 0)
    log_prob(prior(3), z).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in prior.parameters())


def test_wrong_values_and_pairs_are_refused() -> None:
    for config in CONFIGS.values():
        with pytest.raises(ValueError, match="goes with prior standard_normal or mixture or flow, not with vamp"):
            prior_for(config, VampPriorConfig(), 8)
    with pytest.raises(ValueError, match="posterior sylvester needs latent_size 4 or more"):
        prior_for(SylvesterHeadConfig(num_columns=4), None, 3)
    with pytest.raises(ValueError, match="posterior iaf needs latent_size 2"):
        prior_for(IafHeadConfig(), None, 1)
    with pytest.raises(ValueError, match="prior flow needs latent_size 2"):
        prior_for(NormalHeadConfig(), FlowPriorConfig(), 1)
    assert prior_for(PlanarHeadConfig(), None, 1).kind == "standard_normal"
