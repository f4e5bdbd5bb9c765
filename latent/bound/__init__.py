"""The evidence lower bound: the model's three parts, its terms, the schedules and the objectives."""

from latent.bound.model import Batch, BatchT, LatentModel
from latent.bound.objectives import ElboObjective, IwaeObjective, Loss, Objective
from latent.bound.schedules import Constant, Cyclical, Ladder, Linear, Logistic, Schedule, Staircase
from latent.bound.terms import ElboTerms

__all__ = [
    "Batch",
    "BatchT",
    "Constant",
    "Cyclical",
    "ElboObjective",
    "ElboTerms",
    "IwaeObjective",
    "Ladder",
    "LatentModel",
    "Linear",
    "Logistic",
    "Loss",
    "Objective",
    "Schedule",
    "Staircase",
]
