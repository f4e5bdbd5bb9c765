"""How a model that draws in steps came to its images."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

MOST_SHOWN = 10  # images
MOST_STEPS = 100  # of more, so many are shown, evenly spaced, the first and the last among them


@dataclass(frozen=True)
class Drawing:
    """N images of D pixels after each of T steps, and the edges of the windows that the step wrote to.

    Each image has R windows, 1 or none: left, top, right and bottom in pixels, whose middles are counted from 1.
    """

    pixels: Float[Tensor, "T N D"]
    windows: Float[Tensor, "T N R 4"]

    def thinned(self) -> tuple["Drawing", list[str]]:
        """The first images at the steps that are shown, on the CPU, with the steps' numbers, from 1."""
        num_steps = len(self.pixels)
        steps = torch.linspace(0, num_steps - 1, min(num_steps, MOST_STEPS), dtype=torch.float64).round().long()
        pixels, windows = (each[:, :MOST_SHOWN].cpu()[steps] for each in (self.pixels, self.windows))
        return Drawing(pixels, windows), [str(step + 1) for step in steps.tolist()]
