"""What a report shows of a run."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from latent.measures import BoundMeasures
from latent.reporting.latent_map import LatentMap

ContentT = TypeVar("ContentT")


@dataclass(frozen=True)
class RunReport(Generic[ContentT]):
    """What the report shows of a run: `content` is what its side lets it show, as sentences or pictures.

    `seconds` is the time that its training took, where that is known.
    """

    name: str
    metrics: tuple[dict[str, Any], ...]
    measures: BoundMeasures
    content: ContentT
    seconds: float | None = None
    latent_map: LatentMap | None = None
