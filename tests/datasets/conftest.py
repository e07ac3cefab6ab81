"""The user's cache of downloads, empty; files as Python 2 wrote them."""

import struct

import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty user cache, and no VDCORE_DATASET_ROOT."""
    pooch = pytest.importorskip("pooch", reason="needs pooch")
    monkeypatch.delenv("VDCORE_DATASET_ROOT", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / project)
    return tmp_path / "vdcore"


@pytest.fixture
def python2_pickle():
    """Pickles a value as Python 2 and NumPy 1 did, in protocol 2; its text is bytes."""
    return lambda value: b"\x80\x02" + _python2(value) + b"."


def _python2(value):
    if isinstance(value, dict):
        items = b"".join(_python2(x) for item in value.items() for x in item)
        return b"}(" + items + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_python2, value)) + b"e"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_python2, value)) + b"t"
    if isinstance(value, bytes):
        return b"T" + struct.pack("<i", len(value)) + value
    if isinstance(value, bool | None):
        return {True: b"\x88", False: b"\x89", None: b"N"}[value]
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    is_fortran = value.flags.f_contiguous and not value.flags.c_contiguous
    values = value.tobytes("A")
    code = value.dtype.str[1:].encode()
    dtype = b"cnumpy\ndtype\n" + _python2((code, 0, 1)) + b"R"
    dtype += _python2((3, b"|", None, None, None, -1, -1, 0)) + b"b"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    )
    shape = _python2(value.shape)
    state = _python2(1) + shape + dtype + _python2(is_fortran) + _python2(values)
    return array + b"(" + state + b"tb"
