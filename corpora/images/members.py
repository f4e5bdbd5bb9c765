"""Files of a data set that lies in a folder or, as it is published, in a tar archive: read where they are."""

import tarfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

from corpora.plain_files import check_plain

MAX_FILE_BYTES = 2**28  # of one file


def read_members(path: Path, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Those of the named files that a folder or a tar archive holds, each with its content, in any order.

    Nothing is unpacked. Raises ValueError, naming the file and the remedy, for what cannot be read, for files of more
    than MAX_FILE_BYTES, for names that lead out of the folder, and for an archive with members that would lie outside
    of it, with links, or with what is no file: no published archive has any.
    """
    for name in names:
        if name.startswith("/") or ".." in name.split("/"):
            raise ValueError(
                f"{path}: a list names {name!r:.200}, which leads out of its folder; use the published one"
            )
    return _of_folder(path, names) if path.is_dir() else _of_archive(path, names)


def read_file(path: Path) -> bytes:
    """A file's bytes. Raises ValueError, naming it, where it cannot be read or is very large."""
    try:
        check_plain(path)
        check_size(str(path), path.stat().st_size)
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}; mend it or take it away") from error


def check_size(where: str, size: int) -> None:
    """Raise ValueError for a very large file."""
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{where}: has {size:,} bytes, more than the {MAX_FILE_BYTES:,} that are read of one file")


def _of_folder(folder: Path, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        if (folder / name).is_file():
            yield name, read_file(folder / name)


def _of_archive(path: Path, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    wanted = set(names)
    try:
        check_plain(path)
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                _check_member(path, member)
                name = member.name.removeprefix("./")
                if member.isfile() and name in wanted:
                    stream = archive.extractfile(member)
                    assert stream is not None
                    wanted.remove(name)  # which a second member of the name does not replace
                    yield name, stream.read()
    except FileNotFoundError as error:
        raise ValueError(f"{path}: there is no such folder or archive; set corpus.path") from error
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise ValueError(
            f"{path}: cannot be read as a tar archive ({error}); download it again or unpack it"
        ) from error


def _check_member(path: Path, member: tarfile.TarInfo) -> None:
    """Raise ValueError for what no published archive has; to pass over a size without end would take without end."""
    check_size(f"{path}: {member.name!r:.200}", member.size)
    try:
        tarfile.data_filter(member, str(path.parent))
    except tarfile.FilterError as error:
        raise ValueError(
            f"{path}: refused, because of a hostile member: {error}; download the archive again"
        ) from error
    if member.issym() or member.islnk() or member.name.startswith("/"):
        what = "has an absolute path" if member.name.startswith("/") else "is a link"
        raise ValueError(f"{path}: refused, because member {member.name!r:.200} {what}; download the archive again")
