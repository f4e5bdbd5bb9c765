"""Masks of the photographs in a folder, which need not have any."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from corpora.images import ImageBatch
from corpora.images.masks import images_below, is_image
from corpora.images.members import read_file
from corpora.images.pairs import decode_rgb, resized
from imagevae.session import TrainedImages
from imagevae.structured import NUM_PREDICTIONS
from latent.measures import evaluating
from latent.training.files import write_atomically


@dataclass(frozen=True)
class PredictedMasks:
    """The masks that were written, and why others were not."""

    written: tuple[Path, ...]
    left_out: tuple[str, ...]


def predict_folder(trained: TrainedImages, folder: Path, out: Path, seed: int = 0) -> PredictedMasks:
    """Write `out`/NAME.png for each photograph NAME below the folder: 255 where foreground is likelier, else 0.

    A mask is of its photograph's own size and depends on nothing else in the folder. Raises ValueError for a run that
    is given no photographs, where the folder has none that can be read, and where masks would take their places.
    """
    form = trained.form
    if form.context_channels != 3:
        raise ValueError(
            f"{trained.run.path}: its model is given no photographs; train one with corpus.kind=masks or cub"
        )
    if out.resolve() == folder.resolve():
        raise ValueError(f"--out {out}: the folder of the photographs, which masks would replace; give another one")
    written, left_out = [], [f"{path}: no image by its ending" for path in _others(folder)]
    for name, path in images_below(folder, "give a folder of photographs with --images").items():
        try:
            photograph = decode_rgb(str(path), read_file(path))
        except ValueError as error:
            left_out.append(str(error))
            continue
        mask = _mask(foreground(trained, resized(photograph, form.height), seed), photograph.size)
        target = out / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, mask)
        written.append(target)
    if not written:
        raise ValueError(f"{folder}: no photograph that can be read{f'; {left_out[0]}' if left_out else ''}")
    return PredictedMasks(tuple(written), tuple(left_out))


def foreground(trained: TrainedImages, photograph: UInt8[np.ndarray, "3 H W"], seed: int) -> Float[Tensor, "1 H W"]:
    """The probability of foreground, averaged over draws of the prior."""
    levels = torch.tensor(photograph[None]).float().div_(255)
    nothing = torch.zeros(1, *trained.form.shape)  # what is to be predicted
    batch = ImageBatch(pixels=nothing, indices=torch.zeros(1, dtype=torch.int64), context=levels).to(trained.device)
    model = trained.model
    with evaluating(model, seed):
        z = model.prior(batch).sample((NUM_PREDICTIONS,))
        mean = model.likelihood.mean(model.outputs(z, batch).squeeze(1)).mean(0)
    return trained.form.images(mean).cpu()


def _mask(probability: Float[Tensor, "1 H W"], size: tuple[int, int]) -> bytes:
    """A PNG of (width, height): the probabilities are interpolated, and what is above ½ is foreground."""
    image = Image.fromarray(probability[0].float().numpy()).resize(size, Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    Image.fromarray((np.asarray(image) > 0.5) * np.uint8(255)).save(buffer, "PNG")
    return buffer.getvalue()


def _others(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".") and not is_image(path)
    )
