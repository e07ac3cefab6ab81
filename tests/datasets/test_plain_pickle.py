"""Pickles of batches: read, whoever wrote them, and refused when they want to act."""

from __future__ import annotations

import builtins
import collections
import copyreg
import os
import pickle
import struct

import numpy
import pytest
from numpy.testing import assert_array_equal

from vdcore.datasets.plain_pickle import read_plain_pickle

PROTOCOLS = range(6)
DATA = numpy.random.default_rng(0).integers(0, 256, (4, 7), dtype=numpy.uint8)
NDARRAY = b"cnumpy\nndarray\n"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
ENCODE = b"c_codecs\nencode\n"


@pytest.mark.parametrize("order", ["C", "F"])
def test_reads_what_python_2_wrote(python2_pickle, order):
    data = numpy.asarray(DATA, order=order)
    content = python2_pickle({b"data": data, b"labels": [3, 0], b"name": b"x\xff"})
    # The writer of this file, against NumPy's own reader.
    assert_array_equal(pickle.loads(content, encoding="bytes")[b"data"], DATA)
    batch = read_plain_pickle(content)
    assert_array_equal(batch.pop("data"), DATA)
    assert batch == {"labels": [3, 0], "name": b"x\xff"}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_reads_what_python_3_wrote(protocol, order):
    data = numpy.asarray(DATA, order=order)
    others = {"labels": [3, 0], "name": "x", "files": [b"\xff", "y"]}
    content = pickle.dumps({"data": data, **others}, protocol)
    for spelling in {content, content.replace(b"numpy._core", b"numpy.core")}:
        if protocol > 2 and spelling != content:
            continue  # names have a length there
        batch = read_plain_pickle(spelling)
        assert batch["data"].dtype == numpy.uint8
        assert_array_equal(batch.pop("data"), DATA)
        assert batch == others


def test_reads_protocol_5_of_numpy_1():
    content = pickle.dumps({"data": DATA}, 5)
    new, old = b"\x8c\x13numpy._core.numeric", b"\x8c\x12numpy.core.numeric"
    assert content.count(new) == 1
    length = struct.unpack("<Q", content[3:11])[0]
    content = content[:3] + struct.pack("<Q", length - 1) + content[11:]
    content = content.replace(new, old)
    assert_array_equal(read_plain_pickle(content)["data"], DATA)


class Calls:
    """Pickled as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_runs_nothing(protocol, tmp_path):
    marker = tmp_path / "marker"
    for function, args, name in [
        (os.mkdir, (str(marker),), f"{os.name}.mkdir"),
        (eval, (f"__import__('os').mkdir({str(marker)!r})",), "eval"),
        (getattr, ("x", "upper"), "getattr"),
        (collections.OrderedDict, (), "OrderedDict"),
    ]:
        content = pickle.dumps({"data": DATA, "x": Calls(function, *args)}, protocol)
        with pytest.raises(ValueError, match=rf"asks for .*{name}, which plain data"):
            read_plain_pickle(content)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy", "load"),
        ("numpy", "ndarray.tofile"),
        ("numpy.core.multiarray", "scalar"),  # unpickles its argument
        ("numpy.core.multiarray", "fromfile"),
        ("_codecs", "decode"),
        ("vdcore.datasets.plain_pickle", "_Symbol"),
    ],
)
def test_knows_no_other_names(module, name):
    old = f"c{module}\n{name}\n.".encode()
    text = b"".join(b"\x8c" + bytes([len(x)]) + x.encode() for x in (module, name))
    for content in (old, b"\x80\x04" + text + b"\x93."):
        with pytest.raises(ValueError, match=f"it asks for {module}.{name}, which"):
            read_plain_pickle(content)


@pytest.mark.parametrize(
    "content",
    [
        b"Pname\n.",  # a persistent object, by name
        b"I1\nQ.",  # one by value
        b"\x82\x01.",  # an extension that copyreg has registered
        b"(inumpy\nload\n.",
        b"\x97.",  # a buffer out of band
    ],
)
def test_other_ways_to_name_something(content):
    copyreg.add_extension("builtins", "eval", 1)
    try:
        assert pickle.loads(b"\x82\x01.") is eval  # and is cached from here on
        with pytest.raises(ValueError, match="no pickle that can be read"):
            read_plain_pickle(content)
    finally:
        copyreg.remove_extension("builtins", "eval", 1)


@pytest.mark.parametrize(
    "value",
    [
        NDARRAY,
        NDARRAY + b")\x81",  # ndarray.__new__
        NDARRAY + b"}U\x04nameU\x01xsb",  # attributes
        NDARRAY + b"N}U\x04nameK\x01s\x86b",
        RECONSTRUCT + b")R",
        RECONSTRUCT + b")RK\x01b",
        ENCODE + b"(U\x01xU\x03ziptR",
        ENCODE + b"(K\x01K\x02tR",
    ],
)
def test_known_names_used_otherwise(python2_pickle, value):
    with pytest.raises(ValueError, match=r"no pickle that|is no array of uint8"):
        read_plain_pickle(b"\x80\x02}U\x04data" + value + b"s.")
    fresh = read_plain_pickle(python2_pickle({b"data": DATA}))
    assert_array_equal(fresh["data"], DATA)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"cnumpy\ndtype\n", NDARRAY),  # an array of that dtype
        (b"u1", b"O8"),
        (b"(J\x04\0\0\0J\x07", b"(J\x04\0\0\0J\x08"),  # the shape (4, 8)
        (b"(J\x04\0\0\0J\x07", b"(J\x04\0\0\0U\x07"),
    ],
)
def test_arrays_that_contradict_themselves(python2_pickle, old, new):
    content = python2_pickle({b"data": DATA})
    assert content.count(old) == 1
    with pytest.raises(ValueError, match=r"no pickle that|is no array of uint8"):
        read_plain_pickle(content.replace(old, new))


def test_nothing_is_called_by_a_pickle_that_is_read(python2_pickle, monkeypatch):
    def refuse(*args, **kwargs):
        pytest.fail("called")

    for module in ("numpy._core.multiarray", "numpy._core.numeric"):
        for name in ("_reconstruct", "_frombuffer"):
            monkeypatch.setattr(f"{module}.{name}", refuse, raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    contents = [python2_pickle({b"data": DATA})]
    contents += [pickle.dumps({"data": [1, 2]}, protocol) for protocol in PROTOCOLS]
    for content in contents:
        assert "data" in read_plain_pickle(content)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "no pickle that can be read: Ran out of input"),
        (b"<!DOCTYPE html>", "no pickle that can be read"),
        (pickle.dumps([1]), "a pickled list"),
        (pickle.dumps({"a": 1}) + b"\0", "1 bytes after the end of the pickle"),
        (pickle.dumps({"a": DATA > 3}), r"'a' that is no array of uint8 \(dtype 'b1'"),
    ],
)
def test_other_content(content, expected):
    with pytest.raises(ValueError, match=expected):
        read_plain_pickle(content)


def test_cut_short_anywhere(python2_pickle):
    batch = {"data": DATA, "labels": [1, 300, 70000], "names": ["a", "b"]}
    contents = [pickle.dumps(batch, protocol) for protocol in PROTOCOLS]
    contents.append(python2_pickle({b"data": DATA, b"labels": [1, 2]}))
    for content in contents:
        for end in range(len(content)):
            with pytest.raises(ValueError, match="no pickle that can be read"):
                read_plain_pickle(content[:end])
