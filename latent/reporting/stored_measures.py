"""Measures as a run's folder holds them: written, and read back whole, or an error that names the file."""

import json
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from pydantic import ValidationError
from torch import Tensor

from latent.machine.launch import is_first
from latent.measures import BoundMeasures, Measured, Verdict
from latent.reporting.run_kind import AnyKind
from latent.training import Run
from latent.training.files import MAX_BYTES, read_plain
from latent.training.parquet import parquet_bytes

VERDICTS = get_args(Verdict.__annotations__["name"])
CHECKPOINT = re.compile(r"step-\d{6,}")
MAX_EXAMPLES = 10_000_000  # a few bytes of Parquet can stand for any number of equal rows
LARGEST = 1e12  # a figure beyond that is no measure, and its square no number
TOLERANCE = 1e-6  # relative, between a figure and the mean of the examples behind it


class StoredMeasuresError(ValueError):
    """A file of stored measures that is damaged, or is not what it should be."""

    def __init__(self, path: Path, reason: str) -> None:
        remedy = f"measure the run again: textvae measure {path.parents[1]} --split {path.stem}"
        super().__init__(f"{path}: not measures that can be used: {' '.join(reason.split())[:300]}; {remedy}")


def save_measures(run: Run, found: Measured[Any]) -> None:
    """Keep the measures in the run: `measures/SPLIT.json`, and `measures/SPLIT.parquet` with a row per example.

    Of several processes, which all have the same, the first alone does.
    """
    if not is_first():
        return
    split = found.figures.split
    table = pa.table({name: values.double().numpy() for name, values in found.per_example.items()})
    run.write(f"measures/{split}.parquet", parquet_bytes(table))
    run.write(f"measures/{split}.json", json.dumps(asdict(found.figures), indent=1) + "\n")


def load_measures(kind: AnyKind, run: Run, split: str) -> Measured[Any] | None:
    """The run's measures of a split, or None where it has none.

    The folder may be anybody's: nothing in it is believed before it is checked. Raises StoredMeasuresError, a
    ValueError of one line, for a file that is damaged, has another shape, or does not belong to the other.
    """
    path = run.path / "measures" / f"{split}.json"
    if not path.is_file():
        return None
    figures = _read_figures(kind, path, split)
    return Measured(figures, _read_examples(kind, path.with_suffix(".parquet"), figures))


def _read_figures(kind: AnyKind, path: Path, split: str) -> BoundMeasures:
    try:
        figures: BoundMeasures = kind.parse(_content(path), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StoredMeasuresError(path, f"{where}: {first['msg']}" if where else first["msg"]) from error
    if figures.verdict not in VERDICTS:
        raise StoredMeasuresError(path, f"verdict: {figures.verdict!r:.40} is none of {', '.join(VERDICTS)}")
    if not CHECKPOINT.fullmatch(figures.checkpoint):
        raise StoredMeasuresError(path, f"checkpoint: {figures.checkpoint!r:.40} is no name such as step-000500")
    if figures.split != split:
        raise StoredMeasuresError(path, f"split: they are of {figures.split!r:.40}")
    if not 1 <= figures.num_examples <= MAX_EXAMPLES or figures.num_samples < 1:
        counts = f"{figures.num_examples} {kind.examples}, {figures.num_samples} importance samples"
        raise StoredMeasuresError(path, f"{counts} cannot be")
    names = (*kind.by_example, *kind.of_the_whole, *kind.of_some(figures))
    numbers = {name: kind.figure(figures, name).value for name in names}
    for name, value in (*numbers.items(), *(("kl_per_dimension", value) for value in figures.kl_per_dimension)):
        if math.isfinite(value) and abs(value) > LARGEST:
            raise StoredMeasuresError(path, f"{name}: {value:.3g} cannot be")
    return figures


def _read_examples(kind: AnyKind, path: Path, figures: BoundMeasures) -> dict[str, Float[Tensor, " N"]]:
    try:
        file = pq.ParquetFile(pa.BufferReader(_content(path)))
        if file.metadata.num_rows != figures.num_examples:
            rows = f"{file.metadata.num_rows} rows for {figures.num_examples} {kind.examples}"
            raise StoredMeasuresError(path, rows)
        names = [*kind.columns, *kind.of_some(figures)]
        missing = [name for name in names if name not in file.schema_arrow.names]
        if missing:
            raise StoredMeasuresError(path, f"no column {missing[0]}")
        table = file.read(columns=names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise StoredMeasuresError(path, str(error)) from error
    columns = {name: table.column(name) for name in names}
    for name, column in columns.items():
        if column.type != pa.float64() or column.null_count or len(column) != figures.num_examples:
            raise StoredMeasuresError(path, f"column {name}: one number for each {kind.example} is needed")
    values = {name: np.array(column.to_numpy()) for name, column in columns.items()}
    _check_together(kind, path, values, figures)
    return {name: torch.from_numpy(column) for name, column in values.items()}


def _check_together(
    kind: AnyKind, path: Path, values: dict[str, Float[np.ndarray, " N"]], figures: BoundMeasures
) -> None:
    """A kill between the two files leaves the examples of one measuring beside the figures of another."""
    with np.errstate(invalid="ignore", over="ignore"):  # a hostile mean need not be finite
        for name in (*kind.differenced, *kind.of_some(figures)):
            mean, expected = float(values[name].mean()), kind.figure(figures, name).value
            if not np.isclose(mean, expected, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
                raise StoredMeasuresError(path, f"its mean {name}, {mean:.6g}, is not that of {path.stem}.json")
        problem = kind.problem(figures, values)
    if problem is not None:
        raise StoredMeasuresError(path, problem)


def _content(path: Path) -> bytes:
    try:
        return read_plain(path, MAX_BYTES)
    except OSError as error:
        raise StoredMeasuresError(path, error.strerror or str(error)) from error
