"""The form of a corpus' images: what a model must know to be built, kept in its run."""

from dataclasses import dataclass, replace

from jaxtyping import Float
from pydantic import TypeAdapter
from torch import Tensor

from latent.training import Run, RunError
from latent.training.config import STRICT
from latent.training.files import read_plain

FORM = "images.json"
MOST_PIXELS = 10_000_000  # of one image: more is a mistake, or an attempt to fill the memory


@dataclass(frozen=True, kw_only=True)
class ImageForm:
    """Channels, height and width of every image, what its labels stand for, and what is given to predict it.

    That is a part of the image itself, `num_observed` of its values, or all of another image of the same height and
    width, of `context_channels` channels; never both.
    """

    __pydantic_config__ = STRICT

    channels: int
    height: int
    width: int
    class_names: tuple[str, ...]
    num_observed: int = 0  # values of an image that a model is given to predict the others
    context_channels: int = 0  # of the other image that a model is given to predict this one; 0 where there is none

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or self.num_pixels > MOST_PIXELS:
            raise ValueError(f"images of {self.channels}×{self.height}×{self.width} values cannot be")
        if not 0 <= self.num_observed < self.num_pixels:
            raise ValueError(f"images with {self.num_observed} of {self.num_pixels} values given cannot be")
        if self.context_channels < 0 or self.context_channels * self.height * self.width > MOST_PIXELS:
            raise ValueError(f"images given with {self.context_channels} channels cannot be")
        if self.num_observed and self.context_channels:
            raise ValueError("images given in part, with another image beside them, cannot be")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width

    @property
    def num_pixels(self) -> int:
        """C·H·W, the values of an image."""
        return self.channels * self.height * self.width

    @property
    def has_context(self) -> bool:
        """Whether anything is given to predict an image."""
        return self.num_observed + self.context_channels > 0

    @property
    def given(self) -> "ImageForm":
        """What is given as images by themselves, of the same size."""
        return replace(self, channels=self.context_channels or self.channels, num_observed=0, context_channels=0)

    @property
    def joined(self) -> "ImageForm":
        """What is given and what is predicted as one image."""
        return replace(self, channels=self.context_channels + self.channels, num_observed=0, context_channels=0)

    @property
    def num_scored(self) -> int:
        """The values of an image that a likelihood is one of."""
        return self.num_pixels - self.num_observed

    @property
    def num_classes(self) -> int:
        """0 where the images have no labels."""
        return len(self.class_names)

    def images(self, flat: Float[Tensor, "*N D"]) -> Float[Tensor, "*N C H W"]:
        """Values in a row as images."""
        found: Tensor = flat.unflatten(-1, self.shape)
        return found


_ADAPTER: TypeAdapter[ImageForm] = TypeAdapter(ImageForm)


def dump_form(form: ImageForm) -> bytes:
    """The file that a run keeps."""
    return _ADAPTER.dump_json(form) + b"\n"


def stored_form(run: Run) -> ImageForm:
    """The form that the run was trained on. Raises RunError if it is missing or damaged."""
    path = run.path / FORM
    try:
        return _ADAPTER.validate_json(read_plain(path), strict=True)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"{path}: the form of its images cannot be read ({reason}); train the run again") from error
