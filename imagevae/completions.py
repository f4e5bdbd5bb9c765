"""Pictures of what a model predicts of images or of their masks: what is given, predictions, draws, doubt."""

import torch

from corpora.images import ImageBatch
from imagevae.pictures import grid_png
from imagevae.session import TrainedImages
from imagevae.structured import NUM_PREDICTIONS, draws, predict, shown

HEADS = ("given", "truth", "at mean")
LAST_HEADS = ("average", "doubt")


def completions_png(trained: TrainedImages, batch: ImageBatch, num_draws: int, seed: int = 0) -> bytes:
    """A row for each image: what is given, the truth, predictions of the rest and how sure they are.

    What is given is a part of the image, in a field of grey, or a photograph. `at mean` is E[y|x, z] at the prior's
    mean, then come E[y|x, z] at draws of the prior by number, the average of 50 such draws, and its doubt 4 p (1 − p):
    white where a pixel is as likely 0 as 1. The last lacks a part that is given.
    """
    batch = batch.to(trained.device)
    found = predict(trained.model, batch, NUM_PREDICTIONS, seed)
    drawn = draws(trained.model, batch, num_draws, seed)
    doubt = trained.form.images(found.uncertainty)
    columns = [
        shown(batch, None),
        batch.pixels.cpu(),
        shown(batch, found.at_prior_mean),
        *(shown(batch, one) for one in drawn),
        shown(batch, found.averaged),
        (doubt if batch.scored is None else doubt * batch.scored).cpu(),
    ]
    num_channels = max(len(column[0]) for column in columns)  # a photograph has three, its mask one
    columns = [column.expand(-1, num_channels, -1, -1) for column in columns]
    heads = (*HEADS, *(str(number) for number in range(1, num_draws + 1)), *LAST_HEADS)
    return grid_png(torch.stack(columns, 1).flatten(0, 1), len(columns), column_labels=heads)
