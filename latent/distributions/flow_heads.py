"""Flow posteriors by configuration: a diagonal normal, and steps whose parameters come out of the encoder too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from latent.distributions.autoregressive import AutoregressiveStep
from latent.distributions.flow_steps import PlanarStep, RadialStep, SylvesterStep
from latent.distributions.flows import Flow, FlowDistribution, FlowStep
from latent.distributions.heads import Head, NormalHead, at_least_float32
from latent.distributions.priors import FlowPriorConfig, MixturePriorConfig, StandardNormalPriorConfig

START = 0.01  # of the initial weights of what gives a step's strength, so that it begins near the identity

FLOW_PRIORS = (StandardNormalPriorConfig, MixturePriorConfig, FlowPriorConfig)
Length = Annotated[int, Field(ge=1, le=1_000)]  # steps in a row


class FlowHead(Head):
    """A diagonal normal pushed through a flow, the parameters of all steps a linear map of the features.

    The base's initial weights are those of `normal`, and so are those of whatever is made after the head: what the
    flow adds is drawn from a stream of random numbers of its own.
    """

    def __init__(self, num_features: int, latent_size: int, make_steps: Callable[[], Sequence[FlowStep]]) -> None:
        super().__init__()
        self.base = NormalHead(num_features, latent_size)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(torch.randint(2**62, ())))
            self.flow = Flow(make_steps())
            self.step_parameters = nn.Linear(num_features, sum(self.flow.sizes))
        with torch.no_grad():
            for each in (self.step_parameters.weight, self.step_parameters.bias):
                for rows, step in zip(each.split(self.flow.sizes), self.flow.steps, strict=True):
                    rows[: step.num_strengths] *= START

    def forward(self, features: Float[Tensor, "B H"]) -> FlowDistribution:
        """Return q with batch shape B and event shape Z."""
        return FlowDistribution(self.base(features), self.flow, at_least_float32(self.step_parameters(features)))


@dataclass(frozen=True, kw_only=True)
class PlanarHeadConfig:
    """Planar steps: each bends z along one direction."""

    kind: Literal["planar"] = "planar"
    length: Length = 10
    priors: ClassVar = FLOW_PRIORS
    is_free: ClassVar = True
    is_product: ClassVar = False
    least_size: ClassVar = 1

    def build(self, num_features: int, latent_size: int) -> FlowHead:
        """The head from features of this size."""
        return FlowHead(num_features, latent_size, lambda: [PlanarStep(latent_size) for _ in range(self.length)])


@dataclass(frozen=True, kw_only=True)
class RadialHeadConfig:
    """Radial steps: each draws z towards a point, or away from it."""

    kind: Literal["radial"] = "radial"
    length: Length = 10
    priors: ClassVar = FLOW_PRIORS
    is_free: ClassVar = True
    is_product: ClassVar = False
    least_size: ClassVar = 1

    def build(self, num_features: int, latent_size: int) -> FlowHead:
        """The head from features of this size."""
        return FlowHead(num_features, latent_size, lambda: [RadialStep(latent_size) for _ in range(self.length)])


@dataclass(frozen=True, kw_only=True)
class SylvesterHeadConfig:
    """Orthogonal Sylvester steps: each bends z within a space of `num_columns` directions."""

    kind: Literal["sylvester"] = "sylvester"
    length: Length = 4
    num_columns: PositiveInt = 8
    priors: ClassVar = FLOW_PRIORS
    is_free: ClassVar = True
    is_product: ClassVar = False

    @property
    def least_size(self) -> int:
        """As many dimensions as orthonormal columns."""
        return self.num_columns

    def build(self, num_features: int, latent_size: int) -> FlowHead:
        """The head from features of this size."""
        columns = self.num_columns
        return FlowHead(
            num_features, latent_size, lambda: [SylvesterStep(latent_size, columns) for _ in range(self.length)]
        )


@dataclass(frozen=True, kw_only=True)
class IafHeadConfig:
    """Inverse autoregressive steps, the order of the dimensions reversed from each to the next."""

    kind: Literal["iaf"] = "iaf"
    length: Length = 4
    hidden_size: PositiveInt = 128  # of the two hidden layers of each step's network
    context_size: PositiveInt = 32  # of what each step's network is told of x
    priors: ClassVar = FLOW_PRIORS
    is_free: ClassVar = True
    is_product: ClassVar = False
    least_size: ClassVar = 2  # of one dimension nothing is autoregressive

    def build(self, num_features: int, latent_size: int) -> FlowHead:
        """The head from features of this size."""
        return FlowHead(
            num_features,
            latent_size,
            lambda: [
                AutoregressiveStep(
                    latent_size, self.context_size, self.hidden_size, "affine", is_reversed=number % 2 == 1
                )
                for number in range(self.length)
            ],
        )


FlowHeadConfig = IafHeadConfig | PlanarHeadConfig | RadialHeadConfig | SylvesterHeadConfig
