"""Runs on the Hugging Face hub, where an exported one may have been uploaded: fetched when `hf://` names it."""

import re
from pathlib import Path

HUB = re.compile(r"hf://(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
PARTS = ("*.yaml", "*.json", "*.model", "*.safetensors", "measures/*.parquet")  # nothing that could be run


class HubError(ValueError):
    """A run that the hub does not have, or cannot give."""

    exit_code = 2


def fetch_run(name: str) -> Path:
    """The folder, in the hub's own cache, of the run `hf://user/name` or `hf://user/name@revision`.

    Raises HubError for a name of another form, for a run that is not there, and where the hub cannot be reached.
    """
    found = HUB.fullmatch(name)
    if found is None:
        raise HubError(f"{name}: write a run on the hub as hf://user/name or hf://user/name@revision")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(found["name"], revision=found["revision"], allow_patterns=list(PARTS)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise HubError(f"{name}: cannot be fetched from the hub: {reason}") from error
