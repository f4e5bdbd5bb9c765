"""`train.compile`: what `auto` chooses, what is stored and what is said."""

from pathlib import Path

import pytest
import torch
from tiny import start_run, tiny_recipe, write_corpus

from latent.training import ConfigError
from latent.training.compiling import STEPS_TO_EARN, choose_compile
from textvae.side import TEXT

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("wanted", "device", "num_steps", "expected", "reason"),
    [
        ("auto", CPU, 10**9, False, "on cpu"),
        ("auto", CUDA, STEPS_TO_EARN - 1, False, "19,999 steps are fewer than 20,000"),
        ("auto", CUDA, STEPS_TO_EARN, True, "20,000 steps are at least 20,000"),
        (True, CPU, 1, True, "train.compile=true"),
        (False, CUDA, 10**9, False, "train.compile=false"),
    ],
)
def test_compiling_is_chosen_by_device_and_length(
    wanted: str | bool, device: torch.device, num_steps: int, expected: bool, reason: str
) -> None:
    choice = choose_compile(wanted, device, num_steps)
    assert choice.compile is expected
    assert reason in choice.reason


@pytest.mark.parametrize(("given", "expected"), [("auto", "auto"), ("true", True), ("false", False)])
def test_a_recipe_takes_auto_true_and_false(tmp_path: Path, given: str, expected: str | bool) -> None:
    assert tiny_recipe(tmp_path / "none.txt", f"train.compile={given}").train.compile == expected


def test_a_recipe_takes_nothing_else(tmp_path: Path) -> None:
    assert tiny_recipe(tmp_path / "none.txt").train.compile == "auto"
    with pytest.raises(ConfigError, match=r"train\.compile"):
        tiny_recipe(tmp_path / "none.txt", "train.compile=perhaps")


def test_what_was_chosen_is_stored_and_said(tmp_path: Path) -> None:
    run = start_run(tiny_recipe(write_corpus(tmp_path), "train.steps=1"), tmp_path / "run")
    assert TEXT.load_recipe(run.config_path).train.compile is False
    log = (run.path / "log.txt").read_text("utf-8")
    assert "not compiled (train.compile=auto: " in log
    assert "compiling" not in log
