"""The short forms of `benchmarks.fuzz`: some hundreds of cases of what is read quickest, without a finding."""

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fuzz_guided import Chosen, instrumented
from benchmarks.fuzz_mutations import spoil_bytes

# as atheris is called and calls; what is read second ends the process
STAND_IN = """
import os

import benchmarks.fuzz_harness as harness

def instrument_func(function):
    assert function.__module__.split(".")[0] != "benchmarks"

def Setup(arguments, read):
    global reads, folder
    reads, folder = read, arguments[-1]
    assert "-timeout=0" in arguments

def Fuzz():
    (first, *_) = sorted(os.listdir(folder))
    with open(os.path.join(folder, first), "rb") as file:
        reads(file.read())
    harness.judge = lambda *case: os.abort()
    reads(b"\\x07")
"""


def fuzzed(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.fuzz", "--target=sweeps", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


def test_spoiled_files_are_read_or_refused_in_a_line() -> None:
    done = fuzzed("--cases=300")
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert re.search(r"^\| sweeps \| 300 \| [1-9]\d* \|.*\| 0 \|$", done.stdout, re.MULTILINE)


def test_guided_cases_are_counted_and_one_that_ends_the_process_is_named(tmp_path: Path) -> None:
    (tmp_path / "atheris.py").write_text(STAND_IN)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", ""), os.getcwd()])
    done = fuzzed("--guided", "--seconds=4", PYTHONPATH=path)
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert re.search(r"^\| sweeps \| ([2-9]|\d\d+) \| \d+ \|.*\| 1 \|$", done.stdout, re.MULTILINE)
    assert re.search(r"^sweeps, case 07, \d+ times: the process died with status -6$", done.stdout, re.MULTILINE)


def test_a_guided_case_is_read_again_without_atheris() -> None:
    done = fuzzed("--guided", "--case=07")
    assert "a copy: " in done.stdout, done.stderr


def test_where_atheris_is_not_installed_a_line_says_what_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "atheris", None)
    with pytest.raises(SystemExit, match=r"^fuzz: --guided needs atheris: pip install 'textvae\[fuzz\]'$"):
        instrumented()


@given(st.binary(max_size=300), st.binary(max_size=100))
def test_bytes_are_all_of_a_case_s_chance(data: bytes, choices: bytes) -> None:
    """Whatever they are, and where they end too soon."""
    assert spoil_bytes(data, Chosen(choices)) == spoil_bytes(data, Chosen(choices))
    drawn = [Chosen(choices + b"\xff\x7f").random() for _ in range(2)]
    assert drawn[0] == drawn[1] < 1


def test_each_bit_of_the_bytes_can_change_a_choice() -> None:
    for size, bits in ((1, 8), (2, 11)):
        every = {Chosen(number.to_bytes(size, "little")).getrandbits(bits) for number in range(2**bits)}
        assert every == set(range(2**bits))
    assert Chosen(b"\x00\x80").random() == 0.5
    rng = random.Random(0)
    assert {Chosen(rng.randbytes(4)).choice("abc") for _ in range(50)} == set("abc")
