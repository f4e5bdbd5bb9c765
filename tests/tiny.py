"""A corpus and recipes small enough to train in a second."""

import atexit
import functools
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mask_files import write_pairs

from imagevae.recipe import ImageRecipe
from imagevae.side import IMAGE, PHOTOGRAPHS
from latent.training import Run, apply_overrides, read_tree
from latent.training import resume_run as resume_run_of
from latent.training import start_run as start_run_of
from latent.training.checkpoints import list_checkpoints
from latent.training.files import checksum
from latent.training.side import EXCLUSIVE_KEYS
from textvae.recipe import TextRecipe
from textvae.side import TEXT

SUBJECTS = ("the dog", "a cat", "my friend", "the old man", "no child")
VERBS = ("saw", "liked", "followed", "did not see")
OBJECTS = ("the river", "a small house", "the road to the town", "nothing", "me")

SIZES = {"latent_size": 4, "embedding_size": 12, "hidden_size": 16, "num_layers": 2, "num_heads": 2}
OTHERWISE_SMALL = (
    "train.tokens_per_batch=96",
    "train.precision=fp32",
    "train.checkpoint_steps=10",
    "train.log_steps=5",
    "train.keep_checkpoints=3",
)
SMALL = (
    *(f"model.{name}_size={SIZES[f'{name}_size']}" for name in ("latent", "embedding", "hidden")),
    *OTHERWISE_SMALL,
)


def sentences(num_sentences: int, seed: int = 0) -> list[str]:
    """Distinct sentences of a small language."""
    rng = random.Random(seed)
    made: dict[str, None] = {}
    while len(made) < num_sentences:
        words = [rng.choice(SUBJECTS), rng.choice(VERBS), rng.choice(OBJECTS)]
        if rng.random() < 0.5:
            words += ["and then", rng.choice(VERBS), rng.choice(OBJECTS)]
        made[" ".join([*words, "."])] = None
    return list(made)


def write_corpus(folder: Path, num_sentences: int = 120) -> Path:
    """A file of sentences, one a line."""
    path = folder / "tiny.txt"
    path.write_text("\n".join(sentences(num_sentences)) + "\n", encoding="utf-8")
    return path


def tiny_recipe(corpus: Path, *overrides: str, recipe: str = "lstm") -> TextRecipe:
    """A recipe on the file, shrunk."""
    path = TEXT.folder / f"{recipe}.yaml"
    on_file = ("corpus.kind=files", f"corpus.path={corpus}", "corpus.tokenizer.min_count=1")
    tree = read_tree(path)
    small = [f"model.{name}={SIZES[name]}" for name in tree["model"].keys() & SIZES]  # without z there is no size of it
    shorter = {"steps": 10, "max_inner_steps": 12, "compare_every": 4, "inner_steps": 3}
    small += [f"update.{name}={shorter[name]}" for name in tree.get("update", {}).keys() & shorter]
    return TEXT.load_recipe(path, (*on_file, *small, *OTHERWISE_SMALL, "train.steps=30", *overrides))


def start_run(recipe: TextRecipe, path: Path) -> Run:
    """Train a text recipe."""
    return start_run_of(TEXT, recipe, path)


def resume_run(run: Run, *overrides: str) -> Run:
    """Go on with a run of sentences."""
    return resume_run_of(TEXT, run, overrides)


SMALLER = {
    "mlp": {"hidden_sizes": [20, 12]},
    "conv": {"channels": [4, 6], "hidden_size": 12},
    "unet": {"channels": [4, 6]},
}


@functools.cache
def photographs() -> Path:
    """A folder with photographs and their masks, 16 of them to train on; one for each process."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    return write_pairs(folder, 24)


def tiny_image_recipe(recipe: str = "digits_vae", *overrides: str) -> ImageRecipe:
    """An image recipe on the 8×8 digits, or on small photographs, whatever its own corpus, shrunk."""
    tree = read_tree(IMAGE.folder / f"{recipe}.yaml")
    own = tree["corpus"]
    is_of_photographs = own["kind"] in PHOTOGRAPHS
    if is_of_photographs:
        tree["corpus"] = {"kind": "masks", "path": str(photographs()), "size": 16, "num_valid": 4, "num_test": 4}
        tree["model"] |= {"latent_size": 32} if "latent_size" in tree["model"] else {}
    else:
        tree["corpus"] = {"kind": "digits", "binarisation": own.get("binarisation", "dynamic")}
    if "num_quadrants" in own:
        tree["corpus"] |= {"kind": "digits_quadrants", "num_quadrants": own["num_quadrants"]}
    if "network" in tree["model"]:
        tree["model"]["network"] |= SMALLER[tree["model"]["network"]["kind"]]
    if "num_steps" in tree["model"]:
        tree["model"] |= {"num_steps": 3, "hidden_size": 12}
    if "kernel_sizes" in tree["model"]:
        tree["model"] |= {"kernel_sizes": [5, 3], "num_maps": 4, "num_features": 3}
    if "steps" in tree.get("update", {}):
        tree["update"] |= {"steps": 10} | {name: 5 for name in tree["update"] if name == "held_steps"}
    if "inner_steps" in tree.get("update", {}):
        tree["update"] |= {"inner_steps": 3}
    size = 5 if is_of_photographs else 100
    tree["train"] |= {
        "epochs": 3,
        "images_per_batch": size,
        "precision": "fp32",
        "log_steps": 5,
        "checkpoint_steps": 13,
    }
    return IMAGE.schema.validate(apply_overrides(tree, overrides, EXCLUSIVE_KEYS), recipe)


def start_image_run(recipe: ImageRecipe, path: Path) -> Run:
    """Train an image recipe."""
    return start_run_of(IMAGE, recipe, path)


def resume_image_run(run: Run) -> Run:
    """Go on with a run of images."""
    return resume_run_of(IMAGE, run)


def rows(run: Run) -> list[dict[str, Any]]:
    """All that was logged but the speed."""
    return [{key: value for key, value in row.items() if key != "rate"} for row in run.metrics()]


def checkpoints(run: Run) -> dict[str, dict[str, str]]:
    """What the run's whole checkpoints hold: a checksum for each file of tensors. Fails if one is damaged."""
    good, damaged = list_checkpoints(run.path / "checkpoints")
    assert not damaged
    return {each.path.name: {path.name: checksum(path) for path in each.path.glob("*.safetensors")} for each in good}
