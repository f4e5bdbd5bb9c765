"""Spoil whatever the project reads from outside, and see that it is read, or refused in a line.

    python -m benchmarks.fuzz --cases 20000
    python -m benchmarks.fuzz --target checkpoints --case 17
    python -m benchmarks.fuzz --guided --seconds 60

Each case is a copy of a valid example with a file or two spoiled, by a seed of its own, or `--guided` by bytes that
atheris chooses for the code that they reach (`fuzz_guided.py`). It is read in a process that was forked from this one,
with 10 s of the processor and 2 GiB. A finding is an error other than a ValueError or OSError, one that names neither
file nor key, a message of control characters or without end, a warning of a library's, a process that dies, a case that
takes longer, and a file that appears anywhere but in the case's folder: what a poisoned pickle or YAML would leave.
`--case` reads one case again, without a net.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # it comes with the first optimizer, and takes a second or two

from benchmarks.fuzz_examples import EXAMPLES
from benchmarks.fuzz_guided import Chosen, explore, instrumented
from benchmarks.fuzz_harness import Read, Tally, in_child, prepare, told_of
from benchmarks.fuzz_targets import TARGETS, Target


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table in Markdown, and each finding with the case that repeats it; exit status 1 if there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=[target.name for target in TARGETS], help="This one alone.")
    parser.add_argument("--case", help="Read this one again.")
    parser.add_argument("--guided", action="store_true", help="Let atheris choose the cases.")
    parser.add_argument("--seconds", type=int, default=60, help="Of each target, with --guided.")
    asked = parser.parse_args(arguments)
    tool = instrumented() if asked.guided and asked.case is None else None
    torch.set_num_threads(1)  # a process with threads cannot be forked
    chosen = [target for target in TARGETS if asked.target in (None, target.name)]
    total = sum(target.weight for target in chosen)
    tallies: dict[str, Tally] = {}
    print("| what is read | cases | refused | seconds | slowest, s | peak memory, MiB | findings |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        for target in chosen:
            root = Path(name) / target.name.replace(" ", "-")
            (root / "canary").mkdir(parents=True)
            in_child(lambda target=target, root=root: target.make(root / "examples"), root)
            if asked.case is not None:
                read_again(target, root, chance(target, asked.seed, asked.case, asked.guided))
                return
            share = max(1, round(asked.cases * target.weight / total))
            tallies[target.name] = (
                fuzz(target, root, asked.seed, share)
                if tool is None
                else explored(tool, target, root, asked.seed, asked.seconds)
            )
            shutil.rmtree(root)
            print(row(target.name, [tallies[target.name]]), flush=True)
    print(row("all", list(tallies.values())))
    for name, tally in tallies.items():
        for finding, number in tally.findings.most_common():
            print(f"\n{name}, case {tally.firsts[finding]}, {number} times: {finding}")
    sys.exit(1 if any(tally.findings for tally in tallies.values()) else 0)


def row(name: str, tallies: Sequence[Tally]) -> str:
    """Of a table in Markdown."""
    cases, refused, seconds = (sum(getattr(of, what) for of in tallies) for what in ("cases", "refused", "seconds"))
    slowest, peak = max(of.slowest for of in tallies), max(of.peak for of in tallies)
    num_findings = sum(len(of.findings) for of in tallies)
    return f"| {name} | {cases:,} | {refused:,} | {seconds:.0f} | {slowest:.1f} | {peak >> 20:,} | {num_findings} |"


def chance(target: Target, seed: int, case: str, guided: bool) -> random.Random:
    """What a case is made from: its number, or the bytes of which it is the hexadecimal."""
    return Chosen(bytes.fromhex(case)) if guided else random.Random(f"{seed} {target.name} {case}")


def fuzz(target: Target, root: Path, seed: int, num_cases: int) -> Tally:
    """Read so many cases."""

    def work(tally: Tally, read: Read) -> None:
        for case in map(str, range(tally.cases, num_cases)):
            read(case, chance(target, seed, case, guided=False))

    return told_of(target, root, lambda tally: tally.cases < num_cases, work)


def explored(tool: Any, target: Target, root: Path, seed: int, seconds: int) -> Tally:
    """Read cases for so long, as coverage leads to them."""
    end = time.monotonic() + seconds

    def work(tally: Tally, read: Read) -> None:
        def read_in_time(data: bytes) -> None:
            read(data.hex(), Chosen(data))
            if time.monotonic() >= end:
                os._exit(0)  # at once: no thread of a library's is waited for

        explore(tool, read_in_time, root / "kept", seed + tally.cases)

    return told_of(target, root, lambda tally: time.monotonic() < end, work)


def read_again(target: Target, root: Path, rng: random.Random) -> None:
    """Show what one case is, and how it is read, in this process."""
    EXAMPLES[:] = [root / "examples"]
    os.environ["TEXTVAE_CACHE"] = str(root / "cache")
    prepare(target, root, sorted((root / "examples").iterdir()), rng)
    kept = Path(tempfile.mkdtemp(prefix="case-")) / "case"
    shutil.copytree(root / "case", kept, symlinks=True, ignore_dangling_symlinks=True)
    print(f"a copy: {kept}")
    target.read(root / "case")


if __name__ == "__main__":
    main()
