"""The figures of the steps since the last row of metrics.jsonl: on the device until they are asked for."""

import torch
from jaxtyping import Float64
from torch import Tensor

from latent.training.joint import Metrics

Columns = dict[str, list[float]]
STEP, SHARE = "step", "weight"


class Window:
    """Steps and their figures, in order; each of the columns of a checkpoint is one figure's."""

    def __init__(self, columns: Columns | None = None) -> None:
        columns = columns or {}
        self._rows: list[Metrics] = [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, step: int, metrics: Metrics) -> None:
        """Take note of a step; the device is not waited for."""
        self._rows.append({**metrics, STEP: float(step)})

    def columns(self) -> Columns:
        """Every figure of every step: what a checkpoint keeps. The device is waited for."""
        return {name: values.tolist() for name, values in self._values().items()}

    def means(self) -> dict[str, float]:
        """The means over the examples. The device is waited for."""
        values = self._values()
        share = values.pop(SHARE)
        del values[STEP]
        return {name: ((value * share).sum() / share.sum()).item() for name, value in values.items()}

    def non_finite(self) -> tuple[int, list[str]] | None:
        """The first step with a figure that is not finite, and which they are. The device is waited for."""
        values = self._values()
        bad = {name: ~value.isfinite() for name, value in values.items()}
        if not any(column.any() for column in bad.values()):
            return None
        first = int(torch.stack(list(bad.values())).any(dim=0).nonzero()[0, 0])
        return int(values[STEP][first]), [name for name, column in bad.items() if column[first]]

    def clear(self) -> None:
        """Begin anew, after a row has been written."""
        self._rows = []

    def _values(self) -> dict[str, Float64[Tensor, " steps"]]:
        return {name: self._column(name) for name in (self._rows[0] if self._rows else ())}

    def _column(self, name: str) -> Float64[Tensor, " steps"]:
        """A figure of every step; those that a checkpoint has brought are numbers, the others may be on a device."""
        device = torch.as_tensor(self._rows[-1][name]).device
        return torch.stack([torch.as_tensor(row[name], dtype=torch.float64, device=device) for row in self._rows]).cpu()
