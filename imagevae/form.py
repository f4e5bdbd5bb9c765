"""The form of a corpus' images: what a model must know to be built, kept in its run."""

from dataclasses import dataclass

from jaxtyping import Float
from pydantic import TypeAdapter
from torch import Tensor

from latent.training import Run, RunError
from latent.training.config import STRICT

FORM = "images.json"
MOST_PIXELS = 10_000_000  # of one image: more is a mistake, or an attempt to fill the memory


@dataclass(frozen=True, kw_only=True)
class ImageForm:
    """Channels, height and width of every image, what its labels stand for, and how much of it is given."""

    __pydantic_config__ = STRICT

    channels: int
    height: int
    width: int
    class_names: tuple[str, ...]
    num_observed: int = 0  # values of an image that a model is given to predict the others

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or self.num_pixels > MOST_PIXELS:
            raise ValueError(f"images of {self.channels}×{self.height}×{self.width} values cannot be")
        if not 0 <= self.num_observed < self.num_pixels:
            raise ValueError(f"images with {self.num_observed} of {self.num_pixels} values given cannot be")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width

    @property
    def num_pixels(self) -> int:
        """C·H·W, the values of an image."""
        return self.channels * self.height * self.width

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
        return _ADAPTER.validate_json(path.read_bytes(), strict=True)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"{path}: the form of its images cannot be read ({reason}); train the run again") from error
