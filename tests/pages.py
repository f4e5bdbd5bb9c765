"""A report as a parser and as a browser read it."""

import os
import shutil
import signal
import subprocess
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import pytest

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.headings: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.text += data
        if self.tags[-1:] == ["h2"]:
            self.headings.append(data)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


def browsed(path: Path) -> str:
    """The page as a browser understands it."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [chromium, *QUIET, f"--user-data-dir={folder}", "--dump-dom", path.as_uri()]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
        )
        try:
            return process.communicate(timeout=120)[0]
        finally:
            if process.poll() is None:  # its own group: the browser is many processes
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
