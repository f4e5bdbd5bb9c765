import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Every test starts with an empty cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TEXTVAE_CACHE", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path):
    """A folder of three splits: 6, 2 and 2 sentences."""
    path = tmp_path / "corpus"
    path.mkdir()
    (path / "train.txt").write_text("a b c\nb c\nc\na a a a\nb\na b\n", "utf-8")
    (path / "valid.txt").write_text("a z\nb\n", "utf-8")
    (path / "test.txt").write_text("c b a\n\nz z\n", "utf-8")
    return path
