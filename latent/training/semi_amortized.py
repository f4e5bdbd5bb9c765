"""`kind: semi_amortized`: the posterior that the encoder gives is refined by a few steps before the bound is taken."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from latent.bound import Batch, LatentModel, Loss, Objective
from latent.distributions import free_parameters, with_parameters
from latent.training.inner_steps import InnerSteps, Parts
from latent.training.joint import Batches, Metrics, batches_of_step, step_down
from latent.training.state import TrainState


def check_free(name: str, *, is_free: bool) -> None:
    """Raise ValueError where the posterior of a model of this name cannot be refined."""
    if not is_free:
        raise ValueError(
            f"update.kind: semi_amortized refines a q that may become any of its family, and {name} has none; "
            "use joint, or model.posterior.kind=normal"
        )


@dataclass(frozen=True, kw_only=True)
class SemiAmortizedUpdate:
    r"""A semi-amortised VAE: the encoder gives \(\lambda_0\), K steps down each example's own loss \(\lambda_K\).

    \[ \min_{\theta, \phi} L(\lambda_K(\theta, \phi), \theta), \qquad \lambda_0 = \mathrm{enc}_\phi(x) \]
    L is the objective, with the weight that it has at the step. Its gradient goes through the inner steps, exactly
    (`InnerSteps`): to the encoder, whose q is a start and need not be good itself, and a second time to the decoder.
    They go down the sum over the examples and not their mean, so that an example's path does not hang on the size of
    its batch. λ is (μ, ln σ) of a normal, and of a flow what an example brings along.

    Each inner step draws its own ε and dropout. `loss` and the figures beside it are of λ_K, and `refinement_gain` is
    L(λ_0) − L(λ_K). All else in the project takes the encoder's q: validation figures, and with them the best
    checkpoint, are of λ_0, and `measure --refine` puts refined figures beside them.

    Reference: Kim et al. 2018, "Semi-Amortized Variational Autoencoders", algorithm 1. K, momentum and norm are those
    of its authors' code, which clips the gradient of a whole batch. Its rate is 1 on the mean over 32 sentences: 1/32
    for each. Its λ is (μ, ln σ²): at the same rate a step of ln σ is four times as long here.
    """

    kind: Literal["semi_amortized"] = "semi_amortized"
    inner_steps: PositiveInt = 20
    inner_learning_rate: PositiveFloat = 1 / 32
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5
    max_inner_gradient_norm: PositiveFloat = 5.0  # of each example, by μ and by ln σ
    max_gradient_norm: PositiveFloat = 5.0
    trains_bound: ClassVar[bool] = True

    def prepare(self, state: TrainState) -> None:
        """Nothing is needed beside the state."""

    def __call__(self, state: TrainState, batches: Batches, objective: Objective) -> Metrics:
        """Take one step."""
        return step_down(
            state,
            batches_of_step(state, batches),
            lambda batch: self._loss(state, batch, objective),
            self.max_gradient_norm,
        )

    def may_pass_over(self, step: int) -> bool:
        """Any step is like the others."""
        return True

    def after_validation(self, state: TrainState, found: Mapping[str, float]) -> None:
        """Nothing hangs on a validation."""

    def check_objective(self, objective: Objective) -> None:
        """Raise ValueError for an objective whose value does not have the gradient that it gives."""
        if objective.path_gradient or objective.from_prior:
            raise ValueError(
                "update.kind: semi_amortized steps down the objective's value at draws of q: it needs "
                "objective.kind=elbo or target_rate, or iwae with objective.gradient=standard"
            )

    def check(self, model: LatentModel[Any]) -> None:
        """Raise ValueError for a model whose posterior cannot be refined."""
        check_free(type(model).__name__, is_free=model.latent_size > 0 and model.posterior_is_free)

    def _loss(self, state: TrainState, batch: Batch, objective: Objective) -> Loss:
        """The objective at λ_K, with the gradient through the inner steps."""
        model = state.model
        model.at_step(state.step)  # not through the model's forward, which may be compiled: that has no second gradient
        with state.accelerator.autocast():
            q = model.posterior(batch)

        def loss_at(parameters: Parts) -> Loss:
            with state.accelerator.autocast():
                terms = model.terms(with_parameters(q, parameters), batch, objective.num_samples)
            return objective(terms, state.step, state.feedback)

        steps = InnerSteps(
            num_steps=self.inner_steps,
            learning_rate=self.inner_learning_rate,
            momentum=self.momentum,
            max_gradient_norm=self.max_inner_gradient_norm,
        )
        weights = [each for each in model.parameters() if each.requires_grad]
        refined, first = steps.down(lambda at: loss_at(at).value * len(batch), free_parameters(q), weights)
        loss = loss_at(refined)
        gain = first / len(batch) - loss.value.detach()
        return Loss(loss.value, {**loss.logged, "refinement_gain": gain}, loss.feedback)
