"""`textvae export`: a run as a folder that can be given away, with a model card made from its measures.

The folder is a run like any other, whose one checkpoint has no optimizer's moments: every verb takes it but `--resume`.
"""

import shutil
from pathlib import Path
from typing import Any

from latent.measures import Measured
from latent.reporting.comparison import compare_measured
from latent.reporting.comparison_tables import figures_table
from latent.reporting.run_kind import AnyKind, MeasuredRun
from latent.reporting.stored_measures import load_measures
from latent.reporting.tables import TextTable
from latent.training import Run
from latent.training.checkpoints import Checkpoint, save_weights_of
from latent.training.files import folder_written_atomically
from latent.training.lock import LOCK
from latent.training.runs import LOG, METRICS, refuse_used

CARD = "README.md"
SPLITS = ("test", "valid", "train")


def export_run(kind: AnyKind, run: Run, out: Path, which: str = "best") -> Path:
    """Write the run at a checkpoint to `out`: weights, recipe, tokenizer, measures of these very weights, and a card.

    Raises RunError where `out` is in use or the run has no such checkpoint, ConfigError for a run that cannot be read,
    OSError where it cannot be written: then nothing stands there.
    """
    refuse_used(out)
    checkpoint, _ = run.checkpoint(which)
    found = [(split, load_measures(kind, run, split)) for split in SPLITS]
    kept = {split: each for split, each in found if each is not None and _is_of(each, checkpoint)}
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists():
        out.rmdir()  # empty, as refuse_used has seen
    with folder_written_atomically(out) as folder:
        for path in sorted(run.path.iterdir()):
            if (
                path.is_file()
                and not path.is_symlink()
                and not path.name.startswith(".")
                and path.name not in (LOCK, LOG, METRICS, CARD)
            ):
                shutil.copyfile(path, folder / path.name)
        save_weights_of(checkpoint, folder / "checkpoints")
        for split in kept:
            (folder / "measures").mkdir(exist_ok=True)
            for suffix in ("json", "parquet"):
                name = f"measures/{split}.{suffix}"
                shutil.copyfile(run.path / name, folder / name)
        (folder / CARD).write_text(_card(kind, run, checkpoint, kept), encoding="utf-8")
    return out


def _is_of(found: Measured[Any], checkpoint: Checkpoint) -> bool:
    return bool(found.figures.checkpoint == checkpoint.path.name)


def _card(kind: AnyKind, run: Run, checkpoint: Checkpoint, found: dict[str, Measured[Any]]) -> str:
    """The model card, in Markdown with the hub's front matter."""
    recipe = kind.side.load_recipe(run.config_path)
    name = run.path.resolve().parent.name
    lines = [
        "---",
        "library_name: textvae",
        f"tags: [variational-autoencoder, {kind.side.name}]",
        "---",
        "",
        f"# {name}: a model of {kind.examples} (`{recipe.model.kind}`), trained by textvae",
        "",
        f"Corpus `{recipe.corpus.kind}`, seed {recipe.train.seed}, {checkpoint.step:,} steps.",
        "",
        "```",
        "textvae measure FOLDER",
        "textvae sample FOLDER",
        "```",
        "",
    ]
    for split, measured in found.items():
        table = figures_table(compare_measured([MeasuredRun(kind, name, run, recipe, measured)]))
        lines += [f"## Measures on the {split} split", "", *_markdown(table), ""]
    if not found:
        lines += ["## Measures", "", "Not measured at this checkpoint: `textvae measure FOLDER`.", ""]
    return "\n".join([*lines, "## Recipe", "", "```yaml", run.config_path.read_text("utf-8").rstrip(), "```", ""])


def _markdown(table: TextTable) -> list[str]:
    """A table in Markdown, its title above it."""
    rows = [[cell.replace("|", r"\|") for cell in row] for row in (table.heads, *table.rows)]
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return [f"{table.title}.", "", head, f"|{'---|' * len(table.heads)}", *body]
