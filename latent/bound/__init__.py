"""The evidence lower bound: the model's three parts, its terms, the schedules and the objectives."""

from latent.bound.model import Batch, BatchT, LatentModel
from latent.bound.objectives import ElboObjective, Loss, Objective
from latent.bound.schedules import Constant, Cyclical, Linear, Logistic, Schedule
from latent.bound.terms import ElboTerms

__all__ = [
    "Batch",
    "BatchT",
    "Constant",
    "Cyclical",
    "ElboObjective",
    "ElboTerms",
    "LatentModel",
    "Linear",
    "Logistic",
    "Loss",
    "Objective",
    "Schedule",
]
