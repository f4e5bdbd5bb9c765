"""Ways to spoil a file: bits and pieces of any, values of JSON and YAML, members of archives, what is no file."""

import gzip
import io
import json
import os
import pickle
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

NUMBERS = (
    *(0, -1, 1, 2**31, -(2**31) - 1, 2**63, 2**64, 10**18, 10**400, 1e-320, 1e308, -1e308, 0.5, 1e999, -1e999),
    *(float("nan"), True, 3.0, 12345678901),
)
TEXTS = (
    *(
        "",
        " ",
        "\0",
        "\ufeff",
        "\u2028",
        "\u202etxt",
        "e\u0301" * 40,
        "\ud800",
        "𝔘𝔫𝔦",
        "٣",
        "²",
        "\x1b]0;owned\x07",
        "\r",
    ),
    *("..", "/", "../../canary/out", "/dev/zero", "/proc/self/mem", "~", "~root", "a/../..", "x" * 5000, "\\\\host\\c"),
    *("<script>alert(1)</script>", "null", "1e3", "9" * 5000, "kind", "hf://a/b", "%s%n", "${HOME}", "$(touch owned)"),
    *("!!python/object/apply:os.system ['touch owned']", "&a [*a]", "{}", "[]", "vae", "step-000001"),
)
OPENED = ("[", "{a: ", '{"a":', "- ", "(", "&a [*a,", "? ")
MOST_BYTES = 300_000  # of a mutated file, so that a case is quick


class Poison:
    """Leaves a file named `owned` in the current folder when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, ("touch owned",)


def spoil(path: Path, rng: random.Random) -> str:
    """Spoil a file, or put something else in its place. Returns what was done, in a word."""
    if rng.random() < 0.06:
        return replace(path, rng)
    data = path.read_bytes()
    by_content = STRUCTURED.get("".join(path.suffixes[-1:]))
    if by_content is not None and rng.random() < 0.75:
        try:
            path.write_bytes(by_content(data, rng))
            return "structure"
        except (ValueError, KeyError, OSError, EOFError, yaml.YAMLError, tarfile.TarError, RecursionError):
            pass  # it has been spoiled before
    path.write_bytes(spoil_bytes(data, rng))
    return "bytes"


def replace(path: Path, rng: random.Random) -> str:
    """What stands there becomes no file, or one of another kind."""
    kinds = ("missing", "folder", "fifo", "dangling", "loop", "endless", "empty", "pickle", "large")
    kind = rng.choice(kinds[:-1] if path.suffix == ".txt" else kinds)  # a text is read whole, however large it is
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind in ("dangling", "loop", "endless"):
        path.symlink_to({"dangling": "nowhere", "loop": path.name, "endless": "/dev/zero"}[kind])
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(2**32)  # which no disk has to hold
    elif kind != "missing":
        path.write_bytes(pickle.dumps(Poison()) if kind == "pickle" else b"")
    return kind


def spoil_bytes(data: bytes, rng: random.Random) -> bytes:
    """One to four of: bits flipped, pieces cut, doubled and put in, numbers of any size, brackets without end."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, end = sorted(rng.choices(range(len(content) + 1), k=2))
        end = min(end, at + rng.choice((1, 4, 64, 10**9)))
        way = rng.randrange(9)
        if way == 0 and content:
            content[min(at, len(content) - 1)] ^= 1 << rng.randrange(8)
        elif way == 1:
            del content[at:]
        elif way == 2:
            del content[at:end]
        elif way == 3:
            content[at:at] = content[at:end] * rng.choice((1, 2, 50))
        elif way == 4:
            content[at:end] = rng.randbytes(end - at)
        elif way == 5:
            content[at:at] = rng.choice(TEXTS).encode("utf-8", "surrogatepass")
        elif way == 6:
            content[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x80"))
        elif way == 7:
            content[at:end] = str(rng.choice(NUMBERS)).encode()
        else:
            content[at:at] = rng.choice(OPENED).encode() * rng.choice((1, 100, 30_000))
        del content[MOST_BYTES:]
    return bytes(content)


def spoil_tree(tree: Any, rng: random.Random) -> Any:
    """Values of a tree of mappings and lists put in, taken out, exchanged, renamed and nested."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        nodes = [node for node in containers(tree) if node]
        if not nodes:
            return rng.choice((*NUMBERS, *TEXTS))
        node, other = rng.choice(nodes), rng.choice(nodes)
        key = rng.choice(list(node)) if type(node) is dict else rng.randrange(len(node))
        way = rng.randrange(8)
        if way == 0:
            del node[key]
        elif way == 1:
            node[key] = value(rng)
        elif way in (2, 3):
            node[key] = rng.choice(NUMBERS)
        elif way == 4:
            node[key] = rng.choice(TEXTS)
        elif way == 5:
            node[key] = json.loads(as_json(rng.choice(list(other.values()) if type(other) is dict else other)))
        elif way == 6 and type(node) is dict:
            node[rng.choice(TEXTS)] = node[key]
        elif way == 7:
            node[key] = [node[key]] * rng.choice((1, 3, 1000))
    return tree


def value(rng: random.Random) -> Any:
    """Something small, of any type, or something deep."""
    nested: Any = 1
    for _ in range(rng.choice((1, 50, 900))):
        nested = [nested] if rng.random() < 0.5 else {"a": nested}
    return rng.choice((None, [], {}, [1, "a", None], {"kind": "linear"}, "never", False, nested))


def containers(tree: Any) -> list[Any]:
    """The mappings and lists of a tree, itself among them."""
    found, left = [], [tree]
    while left:
        node = left.pop()
        if type(node) in (dict, list):
            found.append(node)
            left.extend(node.values() if type(node) is dict else node)
    return found


def as_json(tree: Any) -> str:
    """JSON with what Python adds to it: numbers that are none, halves of characters."""
    return json.dumps(tree)


def spoil_json(data: bytes, rng: random.Random) -> bytes:
    """A document with other values."""
    return as_json(spoil_tree(json.loads(data), rng)).encode()


def spoil_lines(data: bytes, rng: random.Random) -> bytes:
    """One line of a file of documents with other values."""
    lines = data.splitlines(keepends=True) or [b"{}"]
    number = rng.randrange(len(lines))
    lines[number] = spoil_json(lines[number], rng) + b"\n"
    return b"".join(lines)


def spoil_yaml(data: bytes, rng: random.Random) -> bytes:
    """A document with other values; JSON is YAML too."""
    return as_json(spoil_tree(yaml.safe_load(data), rng)).encode()


def spoil_gzip(data: bytes, rng: random.Random) -> bytes:
    """What is packed, spoiled and packed again, or very much of one byte."""
    if rng.random() < 0.02:
        return BOMB
    return gzip.compress(spoil_bytes(gzip.decompress(data), rng), 1)


def spoil_safetensors(data: bytes, rng: random.Random) -> bytes:
    """Another header before the same numbers."""
    size = int.from_bytes(data[:8], "little")
    header = spoil_json(data[8 : 8 + size], rng)
    length = len(header) if rng.random() < 0.8 else rng.choice((0, 2**31, 2**63 - 1, len(header) + 1))
    return length.to_bytes(8, "little") + header + data[8 + size :]


def spoil_archive(data: bytes, rng: random.Random) -> bytes:
    """A tar archive with members spoiled, renamed, made links or devices, doubled or out of order."""
    written = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as old,
        tarfile.open(fileobj=written, mode="w:gz", compresslevel=1) as new,
    ):
        members = old.getmembers()
        chosen = rng.randrange(len(members))
        way = rng.randrange(6)
        for number, member in enumerate(members):
            content = old.extractfile(member)
            inside = b"" if content is None else content.read()
            if number == chosen and way == 0:
                inside = spoil_bytes(inside, rng)
            elif number == chosen and way == 1:
                member.name = rng.choice(TEXTS).replace("\0", "") or "x"
            elif number == chosen and way == 2:
                member.type = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, b"S"))
                member.linkname = rng.choice(TEXTS).replace("\0", "")
            elif number == chosen and way == 3:
                member.pax_headers = {rng.choice(("path", "size", "mtime", "GNU.sparse.map", "linkpath")): "9" * 40}
            elif number == chosen and way == 4:
                new.addfile(member, io.BytesIO(inside))
            elif number == chosen:
                continue
            member.size = len(inside)
            new.addfile(member, io.BytesIO(inside))
    return written.getvalue()


def spoil_zip(data: bytes, rng: random.Random) -> bytes:
    """A zip archive with a member spoiled, or renamed."""
    written = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        names = old.namelist()
        chosen, renames = rng.choice(names), rng.random() < 0.2
        for name in names:
            inside = old.read(name)
            is_it = name == chosen
            new.writestr("../x" if is_it and renames else name, spoil_bytes(inside, rng) if is_it else inside)
    return written.getvalue()


def spoil_parquet(data: bytes, rng: random.Random) -> bytes:
    """A table with columns renamed, taken out, of another type, or with other values."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = pq.read_table(io.BytesIO(data)).to_pydict()
    name = rng.choice(list(columns))
    column = columns[name]
    other = rng.choice(
        ([rng.choice((1e308, -1.0, 0.0, float("nan"), float("inf")))], [True], [rng.choice(TEXTS[:6])], [None], [[1]])
    )
    way = rng.randrange(4)
    if way == 0:
        del columns[name]
    elif way == 1:
        columns[name] = other * len(column)
    elif way == 2:
        columns = {each: values * 2 for each, values in columns.items()}
    elif type(other[0]) is type(column[0]):
        column[rng.randrange(len(column))] = other[0]
    written = io.BytesIO()
    try:
        pq.write_table(pa.table(columns), written)
    except (pa.ArrowException, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from error
    return written.getvalue()


STRUCTURED: dict[str, Callable[[bytes, random.Random], bytes]] = {
    ".json": spoil_json,
    ".jsonl": spoil_lines,
    ".yaml": spoil_yaml,
    ".gz": spoil_gzip,
    ".tgz": spoil_archive,
    ".npz": spoil_zip,
    ".safetensors": spoil_safetensors,
    ".parquet": spoil_parquet,
}
BOMB = gzip.compress(bytes(2**20)) * 3000  # 3 GiB of nothing, in 3 MB
