"""The short form of `benchmarks.fuzz`: some hundreds of cases of what is read quickest, without a finding."""

import re
import subprocess
import sys


def test_spoiled_files_are_read_or_refused_in_a_line() -> None:
    command = [sys.executable, "-m", "benchmarks.fuzz", "--cases=300", "--target=sweeps"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert re.search(r"^\| sweeps \| 300 \| [1-9]\d* \|.*\| 0 \|$", done.stdout, re.MULTILINE)
