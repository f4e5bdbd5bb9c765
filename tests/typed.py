"""The command line as it is typed, in a process of its own or in this one."""

import contextlib
import io
import os
import subprocess
import sys
import unittest.mock
from pathlib import Path

import cli


def process(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=os.environ, check=False)


def textvae(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The same in this process, which has imported torch already."""
    typed, out, err, status = ["textvae", *map(str, arguments)], io.StringIO(), io.StringIO(), 0
    with (
        unittest.mock.patch.object(sys, "argv", typed),
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as ended:
            status = int(ended.code or 0)
    return subprocess.CompletedProcess(typed, status, out.getvalue(), err.getvalue())
