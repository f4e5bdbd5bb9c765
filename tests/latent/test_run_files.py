"""The files of a run's folder that somebody sent: read, or refused in a line; never waited for, never taken whole."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from tiny import tiny_recipe, write_corpus

from latent.training import ConfigError, Run, RunError, build_state, read_tree
from latent.training.checkpoints import CheckpointError, _digest, load_state, read_checkpoint
from latent.training.files import checksum, read_json, read_plain
from textvae.side import TEXT


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def hole(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**32)


HOSTILE = pytest.mark.parametrize("hostile", [pipe, endless, hole])
NO_FILE = "not a plain file|larger than"


@HOSTILE
def test_what_has_no_end_is_not_read(hostile: Callable[[Path], None], tmp_path: Path) -> None:
    hostile(tmp_path / "config.yaml")
    hostile(tmp_path / "env.json")
    with pytest.raises(OSError, match=NO_FILE):
        read_plain(tmp_path / "env.json")
    with pytest.raises(ConfigError, match=rf"config.yaml: cannot be read: ({NO_FILE})"):
        read_tree(tmp_path / "config.yaml")
    with pytest.raises(RunError, match=rf"env.json: damaged .*({NO_FILE})"):
        Run(tmp_path).changed_environment()


@HOSTILE
def test_rows_without_end_are_none(hostile: Callable[[Path], None], tmp_path: Path) -> None:
    hostile(tmp_path / "metrics.jsonl")
    assert list(Run(tmp_path).metrics()) == []


@pytest.mark.parametrize("name", ["state.json", "model.safetensors"])
def test_a_checkpoint_of_pipes_is_damaged(name: str, tmp_path: Path) -> None:
    state = {"step": 1, "figures": {}, "files": {"model.safetensors": ""}}
    (tmp_path / "state.json").write_text(json.dumps(state))
    (tmp_path / name).unlink(missing_ok=True)
    pipe(tmp_path / name)
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (bytes(2**10), "no header"),
        (save({"a": torch.zeros(9)})[:-1], "not of the length"),
        (b"\x22" + bytes(7) + b'{"a": {"data_offsets": [0, 1e999]}}', "no header"),
    ],
)
def test_weights_of_another_length_than_their_header_says_are_not_read(
    content: bytes, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hole of a terabyte would have its checksum taken for an hour."""
    described = {"step": 1, "figures": {}, "files": {"model.safetensors": ""}}
    (tmp_path / "state.json").write_text(json.dumps({**described, "checksum": _digest(described)}))
    (tmp_path / "model.safetensors").write_bytes(content)
    monkeypatch.setattr("latent.training.checkpoints.checksum", lambda path: pytest.fail("it was read"))
    with pytest.raises(CheckpointError, match=f"model.safetensors: damaged .{reason}"):
        read_checkpoint(tmp_path)


def test_moments_without_a_checksum_are_not_believed(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(save({"a": torch.zeros(9)}))
    files = {"model.safetensors": checksum(tmp_path / "model.safetensors")}
    described = {"step": 1, "figures": {}, "files": files}
    (tmp_path / "state.json").write_text(json.dumps({**described, "checksum": _digest(described)}))
    pipe(tmp_path / "optimizer.safetensors")
    found = read_checkpoint(tmp_path)
    assert found.files == {"model.safetensors"}
    state = build_state(TEXT.read(tiny_recipe(write_corpus(tmp_path)), None), tiny_recipe(write_corpus(tmp_path)).train)
    with pytest.raises(CheckpointError, match="exported, without the moments"):
        load_state(found, state)


@pytest.mark.parametrize("content", ["[" * 100_000, "[" * 200 + "]" * 200, '{"a":' * 900 + "1" + "}" * 900])
def test_deep_nesting_is_refused(content: str, tmp_path: Path) -> None:
    for name in ("state.json", "env.json", "config.yaml"):
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(tmp_path / "env.json")
    with pytest.raises(CheckpointError, match=r"damaged .*nested too deeply"):
        read_checkpoint(tmp_path)
    with pytest.raises(ConfigError, match=r"config.yaml: not valid YAML: "):
        read_tree(tmp_path / "config.yaml")


@pytest.mark.parametrize("last", ['{"step": "x"}', '{"step": null}', "{}", '{"step": [1]}'])
def test_rows_with_no_number_of_a_step_are_cut_as_those_of_the_beginning(last: str, tmp_path: Path) -> None:
    run = Run(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n' + last + '\n{"step": 5}\n')
    run.cut_metrics(3)
    assert list(run.metrics()) == [{"step": 1}, json.loads(last)]


def test_rows_end_where_they_are_no_utf_8_or_nested_deeply(tmp_path: Path) -> None:
    for spoiled in (b"\xff\xfe", b"[" * 100_000):
        (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + spoiled + b'\n{"step": 2}\n')
        assert list(Run(tmp_path).metrics()) == [{"step": 1}]
