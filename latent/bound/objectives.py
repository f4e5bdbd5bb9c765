"""Objectives: the only place where a weight, free bits or the mean over the batch appears. They never see the model."""

from typing import Annotated

from pydantic import Field

from latent.bound.elbo import ElboObjective
from latent.bound.hybrid import HybridObjective
from latent.bound.iwae import IwaeObjective
from latent.bound.target_rate import TargetRateObjective

Objective = Annotated[
    ElboObjective | TargetRateObjective | IwaeObjective | HybridObjective, Field(discriminator="kind")
]
