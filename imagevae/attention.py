r"""Reading from and writing to a part of an image through N×N Gaussian filters, or to all of it.

Reference: Gregor et al. 2015, "DRAW: A Recurrent Neural Network For Image Generation", equations 17 to 29.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from imagevae.form import ImageForm
from latent.distributions import at_least_float32


@dataclass(frozen=True)
class Filters:
    r"""N×N Gaussian filters at each of B places: F_Y, F_X, and the intensity γ."""

    rows: Float[Tensor, "B N H"]
    columns: Float[Tensor, "B N W"]
    intensity: Float[Tensor, " B"]

    def read(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C N N"]:
        r"""\(\gamma F_Y x F_X^\top\) of each channel."""
        found: Tensor = self.rows.unsqueeze(1) @ images @ self.columns.unsqueeze(1).mT
        return self.intensity.view(-1, 1, 1, 1) * found

    def write(self, windows: Float[Tensor, "B C N N"]) -> Float[Tensor, "B C H W"]:
        r"""\(\gamma^{-1} F_Y^\top w F_X\) of each channel."""
        found: Tensor = self.rows.unsqueeze(1).mT @ windows @ self.columns.unsqueeze(1)
        return found / self.intensity.view(-1, 1, 1, 1)


@dataclass(frozen=True)
class Place:
    r"""Where N×N filters are: the middle g_X, g_Y and the stride δ in pixels, counted from 1; ln σ² and ln γ."""

    centre_x: Float[Tensor, " B"]
    centre_y: Float[Tensor, " B"]
    stride: Float[Tensor, " B"]
    log_variance: Float[Tensor, " B"]
    log_intensity: Float[Tensor, " B"]

    def window(self, num_filters: int) -> Float[Tensor, "B 4"]:
        r"""Left, top, right and bottom: \(g \mp (\tfrac{N - 1}{2} \delta + \sigma)\), σ beyond the outer filters."""
        reach = (num_filters - 1) / 2 * self.stride + (0.5 * self.log_variance).exp()
        return torch.stack(
            [self.centre_x - reach, self.centre_y - reach, self.centre_x + reach, self.centre_y + reach], 1
        )


def filters(parameters: Float[Tensor, "B 5"], num_filters: int, height: int, width: int) -> Filters:
    r"""Filters from \((\tilde g_X, \tilde g_Y, \ln \sigma^2, \ln \tilde\delta, \ln \gamma)\), A×B being width × height:

    \[ g_X = \tfrac{A + 1}{2} (\tilde g_X + 1), \quad g_Y = \tfrac{B + 1}{2} (\tilde g_Y + 1), \quad
       \delta = \tfrac{\max(A, B) - 1}{N - 1} \tilde\delta. \]
    A single filter has no distance to another.
    """
    place = placed(parameters, num_filters, height, width)
    return Filters(
        filterbank(place.centre_y, place.stride, place.log_variance, num_filters, height),
        filterbank(place.centre_x, place.stride, place.log_variance, num_filters, width),
        place.log_intensity.exp(),
    )


def placed(parameters: Float[Tensor, "B 5"], num_filters: int, height: int, width: int) -> Place:
    """Where the five numbers put the filters, as in `filters`."""
    centre_x, centre_y, log_variance, log_stride, log_intensity = at_least_float32(parameters).unbind(1)
    stride = (max(height, width) - 1) / max(1, num_filters - 1) * log_stride.exp()
    return Place(
        (width + 1) / 2 * (centre_x + 1), (height + 1) / 2 * (centre_y + 1), stride, log_variance, log_intensity
    )


def filterbank(
    centre: Float[Tensor, " B"],
    stride: Float[Tensor, " B"],
    log_variance: Float[Tensor, " B"],
    num_filters: int,
    size: int,
) -> Float[Tensor, "B N A"]:
    r"""N filters over pixels a = 1 … A, each of which sums to 1:

    \[ F[i, a] \propto \exp\big(-(a - \mu_i)^2 / 2\sigma^2\big), \quad
       \mu_i = g + (i - N/2 - \tfrac12)\, \delta, \quad i = 1 \dots N. \]
    The normalisation is of logarithms: a filter that is narrow, or far outside of the image, has its sum all the same.
    """
    places = torch.arange(1, num_filters + 1, dtype=centre.dtype, device=centre.device)
    pixels = torch.arange(1, size + 1, dtype=centre.dtype, device=centre.device)
    means = centre.unsqueeze(1) + (places - num_filters / 2 - 0.5) * stride.unsqueeze(1)
    squared = (pixels - means.unsqueeze(2)).square()
    return torch.softmax(-0.5 * squared * torch.exp(-log_variance).view(-1, 1, 1), 2)


class Attention(nn.Module):
    """N×N filters on images, at a place that is a linear map of a state."""

    def __init__(self, form: ImageForm, hidden_size: int, num_filters: int) -> None:
        super().__init__()
        self.form = form
        self.num_filters = num_filters
        self.place = nn.Linear(hidden_size, 5)

    @property
    def num_values(self) -> int:
        """Values of a window."""
        return self.form.channels * self.num_filters**2

    def forward(self, state: Float[Tensor, "B F"]) -> Filters:
        """The filters."""
        return filters(self.place(state), self.num_filters, self.form.height, self.form.width)

    def read(self, state: Float[Tensor, "B F"], images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B I"]:
        """The window that the filters read, of several images' channels beside each other, its values in a row."""
        found: Filters = self(state)
        return found.read(images).flatten(1)

    def write(self, state: Float[Tensor, "B F"], window: Float[Tensor, "B I"]) -> Float[Tensor, "B D"]:
        """The window's values where the filters put them in an image."""
        shape = (self.form.channels, self.num_filters, self.num_filters)
        found: Filters = self(state)
        return found.write(window.unflatten(1, shape)).flatten(1)

    def windows(self, state: Float[Tensor, "B F"]) -> Float[Tensor, "B 1 4"]:
        """The edges of the window in pixels, as those of a `Place`."""
        place = placed(self.place(state), self.num_filters, self.form.height, self.form.width)
        return place.window(self.num_filters).unsqueeze(1)


class WholeImage(nn.Module):
    """No attention: a window is the image."""

    def __init__(self, form: ImageForm) -> None:
        super().__init__()
        self.num_values = form.num_pixels

    def read(self, state: Float[Tensor, "B F"], images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B I"]:
        """All pixels."""
        return images.flatten(1)

    def write(self, state: Float[Tensor, "B F"], window: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """The window."""
        return window

    def windows(self, state: Float[Tensor, "B F"]) -> Float[Tensor, "B 0 4"]:
        """None: there is nothing to be pointed at."""
        return state.new_zeros(len(state), 0, 4)
