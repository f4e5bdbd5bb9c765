"""The short form of `benchmarks.kills`: a training that is killed three times ends as the one left alone."""

import re
import subprocess
import sys


def test_a_killed_training_ends_as_one_left_alone() -> None:
    command = [sys.executable, "-m", "benchmarks.kills", "--kills=3", "--steps=400", "--longest=1.5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert re.search(r"^killed 3 times: .*\nat step 400: identical$", done.stdout, re.MULTILINE)
