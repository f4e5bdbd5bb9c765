"""How an error is shown."""

import errno
from pathlib import Path

import pytest

from latent.training.files import write_atomically
from textvae.exits import shown


def test_an_error_is_shown_without_what_a_terminal_would_obey_and_not_at_any_length() -> None:
    assert shown(ValueError("a\x1b]0;owned\x07 b\u202e\nsecond\nthird")) == "a\\x1b]0;owned\\x07 b\\u202e\nsecond"
    assert shown(ValueError("x" * 5000)) == "x" * 900 + " …"
    assert shown(ValueError("")) == "ValueError"


def test_an_error_of_the_system_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "absent" / "z.parquet", b"")
    assert shown(caught.value) == f"{tmp_path}/absent/z.parquet: No such file or directory"
    assert shown(OSError(errno.EINVAL, "not a plain file", "pipe")) == "pipe: not a plain file"
    assert shown(OSError("of no file")) == "of no file"
