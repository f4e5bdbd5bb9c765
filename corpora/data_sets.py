"""Hugging Face data sets, from the hub or from a folder that holds one."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def load_data_set(name: str, config: str | None, revision: str | None, train_split: str) -> Mapping[str, Any]:
    """The splits of `datasets.load_dataset(name, config, revision=revision)` by name; no code of it is run.

    `name` may also be a folder of data files, or one that `save_to_disk` wrote; a single split saved there is
    `train_split`. Raises ValueError, in a line, where it cannot be reached or read.
    """
    import datasets  # takes a second or two, which other corpora need not pay
    from huggingface_hub.errors import HfHubHTTPError

    # what went wrong is said below, once; the hub's own retries would fill the screen
    for logger in ("huggingface_hub", "datasets"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    folder = Path(name).expanduser()
    try:
        if (folder / "dataset_dict.json").exists():
            return dict(datasets.load_from_disk(folder))
        if (folder / "state.json").exists():
            return {train_split: datasets.load_from_disk(folder)}
        return dict(datasets.load_dataset(str(folder) if folder.is_dir() else name, config, revision=revision))
    except ConnectionError as error:
        raise ValueError(
            f"{name}: the hub cannot be reached and no copy is at hand; check the network, or set "
            f"corpus.name to a folder that holds the data set ({_first_line(error)})"
        ) from error
    except IndexError as error:  # what load_from_disk makes of a split without rows
        raise ValueError(f"{name}: a split of it is empty; save it again with rows in every split") from error
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError, HfHubHTTPError) as error:
        raise ValueError(
            f"{name}: cannot be loaded; check corpus.name, config and revision: {_first_line(error)}"
        ) from error


def _first_line(error: BaseException) -> str:
    """What went wrong at the root: `datasets` wraps the reason for a broken file in a line that says nothing."""
    return str(error.__cause__ or error).strip().partition("\n")[0]
