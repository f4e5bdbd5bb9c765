"""Objectives and their parts by hand-computed value and by gradient: free bits, target rate, controllers, MMD."""

import itertools
from typing import get_args

import pytest
import torch
from oracle import LinearGaussian
from torch import Tensor

from latent.bound import (
    Constant,
    Controller,
    ElboObjective,
    ElboTerms,
    Feedback,
    IwaeObjective,
    Linear,
    MinimumRate,
    Mmd,
    Objective,
    ProportionalIntegral,
    SoftFreeBits,
    TargetRateObjective,
)
from latent.distributions import Kl, diagonal_normal, standard_normal
from latent.training import ConfigError
from textvae.recipe import TextRecipe
from textvae.side import TEXT

VARIANTS = ("dimension", "total", "example", "dimension_of_example")


def terms_with_kl(per_dimension: Tensor, log_likelihood: Tensor | None = None) -> ElboTerms:
    if log_likelihood is None:
        log_likelihood = torch.zeros(1, len(per_dimension), dtype=per_dimension.dtype)
    zeros, z = torch.zeros_like(log_likelihood), torch.zeros(*log_likelihood.shape, per_dimension.shape[1])
    return ElboTerms.of(z, log_likelihood, zeros, zeros, Kl(per_dimension.sum(-1), per_dimension, closed_form=True))


def terms_with_z(z: Tensor) -> ElboTerms:
    zeros = torch.zeros(z.shape[:2], dtype=z.dtype)
    prior = standard_normal(z.shape[1], z.shape[2], z)
    return ElboTerms.of(z, zeros, zeros, zeros, Kl(zeros[0], None, closed_form=False), prior)


def recipe(*overrides: str) -> TextRecipe:
    return TEXT.load_recipe(TEXT.folder / "lstm.yaml", overrides)


# two examples of two dimensions: totals 0.7 and 1.5 (mean 1.1), means of the dimensions 0.45 and 0.65
KLS = [[0.1, 0.6], [0.8, 0.7]]


@pytest.mark.parametrize(
    ("on", "free_bits", "value", "gradient"),
    [
        ("dimension", 0.5, 0.5 + 0.65, [[0.0, 0.5], [0.0, 0.5]]),
        ("total", 1.0, 1.1, [[0.5, 0.5], [0.5, 0.5]]),
        ("total", 1.2, 1.2, [[0.0, 0.0], [0.0, 0.0]]),
        ("example", 1.0, (1.0 + 1.5) / 2, [[0.0, 0.0], [0.5, 0.5]]),
        ("dimension_of_example", 0.65, (0.65 + 0.65 + 0.8 + 0.7) / 2, [[0.0, 0.0], [0.5, 0.5]]),
    ],
)
def test_free_bits_by_value_and_gradient(on: str, free_bits: float, value: float, gradient: list[list[float]]) -> None:
    per_dimension = torch.tensor(KLS, dtype=torch.float64, requires_grad=True)
    objective = ElboObjective(free_bits=free_bits, free_bits_on=on, kl_weight=Constant(value=0.5))
    loss = objective(terms_with_kl(per_dimension), 0)
    assert loss.value.item() == pytest.approx(0.5 * value)
    assert float(loss.logged["kl"]) == pytest.approx(1.1)  # the KL itself, whatever its floor
    (found,) = torch.autograd.grad(loss.value, per_dimension)
    torch.testing.assert_close(found, 0.5 * torch.tensor(gradient, dtype=torch.float64))


@pytest.mark.parametrize("on", VARIANTS)
def test_without_free_bits_every_variant_is_the_plain_bound(on: str) -> None:
    model = LinearGaussian(orthogonal=False, slack=1.3)
    terms = model(model.draw(9), 2)
    assert torch.equal(ElboObjective(free_bits_on=on)(terms, 0).value, ElboObjective()(terms, 0).value)


def test_the_variants_coincide_for_one_sentence_of_one_dimension() -> None:
    for kl, expected in ((0.3, 0.5), (0.7, 0.7)):
        terms = terms_with_kl(torch.tensor([[kl]], dtype=torch.float64))
        values = [ElboObjective(free_bits=0.5, free_bits_on=on)(terms, 0).value.item() for on in VARIANTS]
        assert values == pytest.approx([expected] * 4)


def test_free_bits_on_a_total_need_no_kl_per_dimension_and_the_others_do() -> None:
    zeros = torch.zeros(1, 2)
    terms = ElboTerms.of(zeros[..., None], zeros, zeros, zeros, Kl(torch.tensor([0.2, 0.9]), None, closed_form=False))
    assert ElboObjective(free_bits=0.6, free_bits_on="total")(terms, 0).value.item() == pytest.approx(0.6)
    assert ElboObjective(free_bits=0.6, free_bits_on="example")(terms, 0).value.item() == pytest.approx(0.75)
    with pytest.raises(ValueError, match=r"objective\.free_bits: .* objective\.free_bits_on=total"):
        ElboObjective(free_bits=0.6, free_bits_on="dimension_of_example")(terms, 0)


def test_the_target_rate_pulls_the_mean_kl_from_both_sides() -> None:
    per_dimension = torch.tensor(KLS, dtype=torch.float64, requires_grad=True)  # mean KL 1.1
    log_likelihood = torch.tensor([[-3.0, -5.0]], dtype=torch.float64)
    objective = TargetRateObjective(target=Linear(end=2.0, steps=4), kl_weight=Constant(value=10.0))
    for step, distance, sign in ((0, 1.1, 1.0), (2, 0.1, 1.0), (4, 0.9, -1.0)):
        loss = objective(terms_with_kl(per_dimension, log_likelihood), step)
        assert loss.value.item() == pytest.approx(4.0 + 10.0 * distance)
        (found,) = torch.autograd.grad(loss.value, per_dimension)
        torch.testing.assert_close(found, torch.full_like(found, sign * 10.0 / 2))
        assert float(loss.logged["elbo"]) == pytest.approx(-4.0 - 1.1)


def test_an_objective_names_its_schedules_by_their_keys() -> None:
    """So that a run can say of each that it will not end."""
    target, weight = Linear(end=2.0, steps=4), Constant(value=3.0)
    rate = TargetRateObjective(target=target, kl_weight=weight)
    assert rate.schedules == {"target": target, "kl_weight": weight}
    assert ElboObjective(kl_weight=weight).schedules == {"kl_weight": weight}
    assert IwaeObjective(num_samples=2).schedules == {}


def test_a_target_of_zero_is_the_weighted_bound() -> None:
    model = LinearGaussian(orthogonal=False, slack=1.3)
    terms = model(model.draw(9), 2)
    at_zero = TargetRateObjective(target=Constant(value=0.0), kl_weight=Constant(value=3.0))(terms, 0)
    torch.testing.assert_close(at_zero.value, ElboObjective(kl_weight=Constant(value=3.0))(terms, 0).value)


def followed(controller: Controller, kls: list[float]) -> list[float]:
    """The factors for a sequence of mean KLs, each given what was said at the one before."""
    found, feedback = [], {}
    for kl in kls:
        factor, feedback = controller(torch.tensor(kl, dtype=torch.float64), feedback)
        found.append(factor.item())
    return found


def test_the_multiplier_climbs_below_the_target_and_falls_to_zero_above() -> None:
    controller = MinimumRate(target=5.0, start=0.9, rate=0.01)
    below, above = followed(controller, [3.0] * 20), followed(controller, [25.0] * 200)
    assert below[0] == above[0] == pytest.approx(1 - 0.9)
    assert all(later < earlier for earlier, later in itertools.pairwise(below))
    assert above[-1] == 1.0
    assert all(later >= earlier for earlier, later in itertools.pairwise(above))
    assert followed(controller, [5.0, 5.0]) == pytest.approx([0.1, 0.1])


def test_the_multiplier_climbs_the_lagrangian_as_rmsprop_does() -> None:
    """Max over u of rec + KL + u (C − KL); the loss that the model sees has the Lagrangian's own gradient by the KL."""
    multiplier = torch.tensor(0.25, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.RMSprop([multiplier], lr=0.02, maximize=True)
    objective = ElboObjective(controller=MinimumRate(target=3.0, start=0.25, rate=0.02))
    feedback: Feedback = {}
    for scale in (1.0, 2.0, 3.0, 0.5, 0.1):
        per_dimension = (scale * torch.tensor(KLS, dtype=torch.float64)).requires_grad_()
        mean = per_dimension.sum(-1).mean()
        by_kl, multiplier.grad = torch.autograd.grad(mean + multiplier * (3.0 - mean), [per_dimension, multiplier])
        loss = objective(terms_with_kl(per_dimension), 0, feedback)
        torch.testing.assert_close(torch.autograd.grad(loss.value, per_dimension)[0], by_kl)
        feedback = loss.feedback
        optimizer.step()
        torch.testing.assert_close(feedback["multiplier"], multiplier.detach())


def test_a_multiplier_of_zero_is_the_plain_bound() -> None:
    model = LinearGaussian(orthogonal=False, slack=1.3)
    terms = model(model.draw(9), 2)
    controlled = ElboObjective(controller=MinimumRate(target=3.0, start=0.0))(terms, 0)
    torch.testing.assert_close(controlled.value, ElboObjective()(terms, 0).value, atol=0, rtol=0)


def test_the_controller_of_the_kl_is_proportional_and_integral() -> None:
    controller = ProportionalIntegral(target=3.0, proportional=0.2, integral=0.05, lowest=0.1, highest=0.9)
    kls = [4.0, 6.0, 2.0]
    sigmoid = torch.sigmoid(torch.tensor(kls, dtype=torch.float64) - 3.0).tolist()
    integrals = [0.05, 0.20, 0.15]
    expected = [0.2 * p + i + 0.1 for p, i in zip(sigmoid, integrals, strict=True)]
    assert followed(controller, kls) == pytest.approx(expected)


def test_the_controller_keeps_its_range_and_comes_back_from_its_ends_at_once() -> None:
    controller = ProportionalIntegral(target=3.0, proportional=0.2, integral=0.05, lowest=0.1, highest=0.9)
    far_above, far_below = [103.0] * 50, [0.0] * 200
    high = followed(controller, [*far_above, 2.0])
    assert high[-2] == 0.9
    assert high[-1] < high[-2] + 0.2 * 0.5  # the integral was held at highest − lowest and has already fallen
    low = followed(controller, [*far_below, 3.5])
    assert low[-2] == pytest.approx(0.1, abs=0.2 / (1 + 20))
    assert low[-1] == pytest.approx(0.1 + 0.2 * 0.6224593 + 0.05 * 0.5)


def test_soft_free_bits_move_the_weight_by_a_factor_and_leave_it_within_the_tolerance() -> None:
    controller = SoftFreeBits(target=2.0, tolerance=0.05, start=0.5, rate=0.25, lowest=0.3, highest=0.6)
    found = followed(controller, [2.05, 1.0, 1.0, 1.0, 2.2, 2.2, 2.2, 2.2])
    assert found == pytest.approx([0.5, 0.5, 0.4, 0.32, 0.3, 0.375, 0.46875, 0.5859375])
    assert followed(controller, [3.0, 3.0, 3.0])[-1] == 0.6


def test_a_controller_multiplies_the_schedule_and_keeps_other_parts() -> None:
    per_dimension = torch.tensor(KLS, dtype=torch.float64, requires_grad=True)
    controller = SoftFreeBits(target=2.0, start=0.5)
    objective = ElboObjective(kl_weight=Linear(steps=10), controller=controller, free_bits=0.5)
    loss = objective(terms_with_kl(per_dimension), 4)
    assert float(loss.logged["kl_weight"]) == pytest.approx(0.4 * 0.5)
    assert loss.value.item() == pytest.approx(0.4 * 0.5 * (0.5 + 0.65))
    assert loss.feedback["soft_weight"].item() == pytest.approx(0.5 / 1.1)  # the KL is 1.1, below the target


@pytest.mark.parametrize("controller", [kind(target=2.0) for kind in get_args(get_args(Controller)[0])])
def test_a_controller_has_no_gradient_and_its_state_survives_as_python_floats(controller: Controller) -> None:
    """A checkpoint holds floats: in float32 too the next factor is the same bit for bit."""
    torch.manual_seed(0)
    kept: dict[str, Tensor | float] = {}
    stored: dict[str, Tensor | float] = {}
    for kl in 4 * torch.rand(30):
        kl.requires_grad_()
        objective = ElboObjective(controller=controller)
        a, b = (objective(terms_with_kl(kl.view(1, 1)), 0, state) for state in (kept, stored))
        assert torch.equal(a.value, b.value)
        assert not any(value.requires_grad for value in a.feedback.values())
        kept, stored = dict(a.feedback), {name: float(value) for name, value in b.feedback.items()}
    assert kept


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_the_discrepancy_by_its_sums(kernel: str) -> None:
    torch.manual_seed(1)
    z, other = torch.randn(2, 5, 3, dtype=torch.float64), torch.randn(2, 5, 3, dtype=torch.float64) + 0.5

    def k(a: Tensor, b: Tensor) -> float:
        distance = (a - b).square().sum().item()
        return 6 / (6 + distance) if kernel == "imq" else float(torch.exp(torch.tensor(-distance / 3)))

    for s, found in enumerate(Mmd(weight=1.0, kernel=kernel).squared_discrepancy(z, other).tolist()):
        pairs = [(i, j) for i in range(5) for j in range(5)]
        within = sum(k(z[s, i], z[s, j]) + k(other[s, i], other[s, j]) for i, j in pairs if i != j) / 20
        between = sum(k(z[s, i], other[s, j]) for i, j in pairs) / 25
        assert found == pytest.approx(within - 2 * between, rel=1e-6)


def exact_discrepancy(shift: float, size: int) -> float:
    """MMD² of N(shift·1, I) and N(0, I) under exp(−‖·‖²/d): the differences are normal with variance 2 each way."""

    def expected(mean: float) -> float:  # E exp(−x²/d) for x ~ N(mean, 2), to the power of d dimensions
        spread = 1 + 4 / size
        return float((torch.tensor(-(mean**2) / (size * spread)).exp() / spread**0.5) ** size)

    return 2 * expected(0.0) - 2 * expected(shift)


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_the_discrepancy_is_unbiased(shift: float) -> None:
    """Of the prior with itself the mean is 0, of a shifted normal the closed form, with only four draws each."""
    torch.manual_seed(2)
    z, other = torch.randn(2, 40_000, 4, 3, dtype=torch.float64)
    values = Mmd(weight=1.0, kernel="rbf").squared_discrepancy(z + shift, other)
    error = values.std() / len(values) ** 0.5
    assert abs(values.mean() - exact_discrepancy(shift, 3)) < 4 * error
    assert error < 5e-3


def test_the_penalty_is_added_with_its_weight_and_logged_without() -> None:
    torch.manual_seed(3)
    z = (torch.randn(1, 6, 2, dtype=torch.float64) + 2.0).requires_grad_()
    with torch.random.fork_rng():
        drawn = standard_normal(6, 2, z).sample((1,))
    expected = Mmd(weight=7.0).squared_discrepancy(z, drawn)[0]
    loss = ElboObjective(kl_weight=Constant(value=0.0), mmd=Mmd(weight=7.0))(terms_with_z(z), 0)
    torch.testing.assert_close(loss.value, 7.0 * expected)
    torch.testing.assert_close(loss.logged["mmd"], expected.detach())
    (gradient,) = torch.autograd.grad(loss.value, z)
    assert gradient.mean() > 0  # down the gradient is towards the prior
    torch.testing.assert_close(gradient, torch.autograd.grad(7.0 * expected, z)[0])


def test_the_penalty_draws_from_the_model_s_own_prior() -> None:
    """Draws of a prior far from N(0, I) are near it and far from N(0, I)."""
    torch.manual_seed(4)
    mean = torch.full((300, 2), 3.0, dtype=torch.float64)
    prior = diagonal_normal(mean, torch.ones_like(mean))
    z, zeros = prior.sample((1,)), torch.zeros(1, 300, dtype=torch.float64)
    kl = Kl(zeros[0], None, closed_form=False)
    assert abs(Mmd(weight=1.0)(ElboTerms.of(z, zeros, zeros, zeros, kl, prior))) < 0.02
    assert Mmd(weight=1.0)(terms_with_z(z)) > 0.5


def test_a_batch_of_one_says_nothing_and_a_model_without_a_prior_is_refused() -> None:
    one = terms_with_z(torch.randn(2, 1, 3, requires_grad=True))
    loss = ElboObjective(mmd=Mmd(weight=1.0))(one, 0)
    assert float(loss.logged["mmd"]) == 0
    with pytest.raises(ValueError, match=r"objective\.mmd: .* set objective\.mmd=null"):
        ElboObjective(mmd=Mmd(weight=1.0))(terms_with_kl(torch.rand(3, 2)), 0)


@pytest.mark.parametrize(
    "objective",
    [
        ElboObjective(free_bits=0.1),
        ElboObjective(mmd=Mmd(weight=2.0), controller=MinimumRate(target=1.0)),
        TargetRateObjective(target=Constant(value=1.0)),
        IwaeObjective(num_samples=3),
    ],
    ids=["elbo", "elbo with parts", "target rate", "iwae"],
)
def test_every_objective_logs_the_same_unweighted_figures(objective: Objective) -> None:
    model = LinearGaussian(orthogonal=False, slack=1.3)
    terms = model(model.draw(9), objective.num_samples)
    logged = objective(terms, 0).logged
    torch.testing.assert_close(logged["elbo"], terms.elbo.mean().detach())
    torch.testing.assert_close(logged["kl"], terms.kl.mean().detach())
    torch.testing.assert_close(logged["reconstruction"], -terms.log_likelihood.mean().detach())
    assert {"loss", "kl_weight"} <= logged.keys()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.free_bits=-1.0", r"objective.free_bits: .*greater than or equal to 0"),
        ("objective.free_bits_on=word", r"objective.free_bits_on: .*'dimension', 'total', 'example'"),
        (
            "objective.controller={kind: pid, target: 3}",
            r"objective\.controller\.kind: 'pid' is none of: mdr, pi, soft_free_bits",
        ),
        ("objective.controller={kind: mdr}", r"objective.controller.target: this key is needed"),
        ("objective.controller={kind: mdr, target: 0.0}", r"objective.controller.target: .*greater than 0"),
        (
            "objective.controller={kind: pi, target: 3, lowest: 1.0}",
            r"controller: lowest \(1.0\) has to be below highest",
        ),
        ("objective.controller={kind: soft_free_bits, target: 3, start: 2.0}", r"start \(2.0\) has to be within"),
        ("objective.mmd={weight: 0}", r"objective.mmd.weight: .*greater than 0"),
        ("objective.mmd={weight: 1.0, kernel: linear}", r"objective.mmd.kernel: .*'imq' or 'rbf'"),
        ("objective={kind: target_rate}", r"objective.target: this key is needed"),
        ("objective={kind: target_rate, target: 3}", r"objective.target: "),
        ("update={kind: aggressive, compare_every: 0}", r"update.compare_every: .*greater than 0"),
    ],
)
def test_a_wrong_setting_is_explained(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe(override)


def test_the_parts_are_read_from_a_recipe() -> None:
    read = recipe("objective.controller={kind: pi, target: 3}", "objective.mmd={weight: 10}").objective
    assert (read.controller, read.mmd) == (ProportionalIntegral(target=3.0), Mmd(weight=10.0))
    assert recipe("objective={kind: target_rate, target: {kind: constant, value: 3}}").objective.target(5) == 3.0
