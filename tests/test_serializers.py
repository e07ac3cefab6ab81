from __future__ import annotations

import io
import json
import pickle
import signal
import struct
import subprocess
import sys
import zipfile

import numpy
import pytest
from numpy.testing import assert_array_equal

from vdcore.serializers import (
    DictionarySerializer,
    FileFormatError,
    generator_state,
    load_npz,
    read_npz,
    restore_generator,
    save_npz,
)


class State:
    """An object with any values; those named by a dictionary are parts."""

    def __init__(self, **values):
        self.values = values

    def serialize(self, serializer):
        for key, value in self.values.items():
            if isinstance(value, State):
                value.serialize(serializer[key])
            else:
                self.values[key] = serializer(key, value)


class Growing:
    """State whose entries are only known from the file."""

    def __init__(self, **values):
        self.values = values

    def serialize(self, serializer):
        names = serializer("names", list(self.values))
        self.values = {name: serializer(name, self.values.get(name)) for name in names}


def model(fill):
    W = numpy.full((2, 3), fill, dtype=numpy.float32)
    return State(l1=State(W=W, b=numpy.full(2, fill)), t=int(fill), lr=fill / 8)


def flat(state):
    writer = DictionarySerializer()
    state.serialize(writer)
    return {name: value.tolist() for name, value in writer.entries.items()}


def test_a_file_holds_plain_arrays_under_chainer_names(tmp_path):
    save_npz(tmp_path / "model.npz", model(2.0))
    with numpy.load(tmp_path / "model.npz", allow_pickle=False) as file:
        assert sorted(file) == ["l1/W", "l1/b", "lr", "t"]
        assert_array_equal(file["l1/W"], numpy.full((2, 3), 2.0))
        assert file["l1/W"].dtype == numpy.float32
        assert file["lr"].shape == ()


def test_a_folder_is_not_written_over(tmp_path):
    with pytest.raises(IsADirectoryError, match=r"cannot write `.*`: it is a folder"):
        save_npz(tmp_path, model(1.0))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("compression", [False, True])
def test_load_gives_back_what_was_saved(tmp_path, compression):
    save_npz(tmp_path / "model.npz", model(2.0), compression=compression)
    loaded = model(7.0)
    load_npz(tmp_path / "model.npz", loaded)
    assert flat(loaded) == flat(model(2.0))
    assert loaded.values["l1"].values["W"].dtype == numpy.float32
    assert type(loaded.values["t"]) is int


@pytest.mark.parametrize(
    "value",
    ["text", None, True, [1, "a", None], {"a": {"b": 2**127}}, 3, 0.1, float("inf")],
)
def test_values_that_are_no_arrays_come_back_equal(tmp_path, value):
    save_npz(tmp_path / "file", State(value=value))
    loaded = State(value=None)
    load_npz(tmp_path / "file", loaded)
    assert loaded.values["value"] == value
    assert type(loaded.values["value"]) is type(value)


def test_none_takes_the_array_of_the_file(tmp_path):
    save_npz(tmp_path / "model.npz", State(W=numpy.arange(3)))
    lazy = State(W=None)
    load_npz(tmp_path / "model.npz", lazy)
    assert_array_equal(lazy.values["W"], [0, 1, 2])


def test_an_array_keeps_its_library(tmp_path):
    xp = pytest.importorskip("array_api_strict", reason="needs array-api-strict")
    save_npz(tmp_path / "model.npz", State(W=xp.ones(2, dtype=xp.float32)))
    loaded = State(W=xp.zeros(2, dtype=xp.float32))
    load_npz(tmp_path / "model.npz", loaded)
    assert type(loaded.values["W"]) is type(xp.zeros(1))
    assert loaded.values["W"].dtype == xp.float32
    assert_array_equal(numpy.from_dlpack(loaded.values["W"]), [1, 1])


def test_a_prefix_reads_a_part_of_the_file(tmp_path):
    save_npz(tmp_path / "snapshot", State(updater=State(model=model(2.0)), n=3))
    loaded = model(7.0)
    load_npz(tmp_path / "snapshot", loaded, prefix="updater/model/")
    assert flat(loaded) == flat(model(2.0))


def test_entries_named_by_the_file_itself_are_read(tmp_path):
    save_npz(tmp_path / "file", Growing(m=numpy.ones(2), v=numpy.zeros(1)))
    loaded = Growing(old=numpy.zeros(5))
    load_npz(tmp_path / "file", loaded)
    assert list(loaded.values) == ["m", "v"]
    assert_array_equal(loaded.values["m"], [1, 1])


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (
            {"W": numpy.zeros((3, 2))},
            r"'W' must be .*\(2, 3\), got float64 of .*\(3, 2\)",
        ),
        ({"W": numpy.zeros((2, 3), "f4")}, "'W' must be float64 .* got float32"),
        ({"W": "text"}, "'W' must be float64 of shape .* got text"),
        ({}, "it has no entry 'W'.*strict=False"),
        ({"W": numpy.zeros((2, 3)), "b": 1.0}, "nothing takes its entry 'b'.*strict=F"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(
    tmp_path, values, problem
):
    save_npz(tmp_path / "model.npz", State(first=1, **values))
    loaded = State(first=5, W=numpy.full((2, 3), 9.0))
    with pytest.raises(
        FileFormatError, match=rf"`.*model\.npz` does not fit.*{problem}"
    ):
        load_npz(tmp_path / "model.npz", loaded)
    assert flat(loaded) == flat(State(first=5, W=numpy.full((2, 3), 9.0)))


def test_a_number_is_no_place_for_an_array(tmp_path):
    save_npz(tmp_path / "file", State(t=numpy.zeros(2)))
    with pytest.raises(
        FileFormatError, match=r"'t' must be a int, got float64 of shape"
    ):
        load_npz(tmp_path / "file", State(t=1))


def test_not_strict_keeps_own_values_and_leaves_entries_aside(tmp_path):
    save_npz(tmp_path / "file", State(a=1, b=2))
    loaded = State(b=20, c=30)
    load_npz(tmp_path / "file", loaded, strict=False)
    assert loaded.values == {"b": 2, "c": 30}


def test_not_strict_refuses_a_file_of_which_nothing_belongs_to_the_object(tmp_path):
    save_npz(tmp_path / "other", State(**{f"layer{n}": n for n in range(7)}))
    loaded = model(7.0)
    expected = (
        r"load_npz: `.*other` does not fit State: it has none of the entries "
        r"'l1/W', 'l1/b', 'lr', 't', but 'layer0', .*'layer4' and 2 more\. "
        r"Build the object as .*, or name the part of the file .* by `prefix`"
    )
    with pytest.raises(FileFormatError, match=expected):
        load_npz(tmp_path / "other", loaded, strict=False)
    assert flat(loaded) == flat(model(7.0))


@pytest.mark.parametrize(
    ("saved", "loaded", "found"),
    [
        (State(), State(a=1), "of the entries 'a', but none"),
        (State(a=1), State(), "of the entries none, but 'a'"),
    ],
)
def test_not_strict_refuses_when_one_of_them_is_empty(tmp_path, saved, loaded, found):
    save_npz(tmp_path / "file", saved)
    with pytest.raises(FileFormatError, match=f"it has none {found}"):
        load_npz(tmp_path / "file", loaded, strict=False)


@pytest.mark.parametrize("strict", [False, True])
def test_an_object_without_state_takes_a_file_without_entries(tmp_path, strict):
    save_npz(tmp_path / "file", State())
    load_npz(tmp_path / "file", State(), strict=strict)


@pytest.mark.parametrize("strict", [False, True])
def test_a_prefix_that_no_entry_has_is_refused(tmp_path, strict):
    save_npz(tmp_path / "snapshot", State(updater=State(model=model(2.0))))
    loaded = model(7.0)
    expected = (
        r"load_npz: `.*snapshot` must have entries that start with `prefix` = "
        r"'model/', got 'updater/model/l1/W', .*; give the prefix of one"
    )
    with pytest.raises(FileFormatError, match=expected):
        load_npz(tmp_path / "snapshot", loaded, prefix="model/", strict=strict)
    assert flat(loaded) == flat(model(7.0))


def test_an_object_that_refuses_a_value_is_rolled_back(tmp_path):
    class Strict(State):
        def serialize(self, serializer):
            super().serialize(serializer)
            if self.values["t"] == 3:
                message = "t must not be 3"
                raise ValueError(message)

    save_npz(tmp_path / "file", State(t=3))
    loaded = Strict(t=1)
    with pytest.raises(FileFormatError, match=r"file` does not fit.*t must not be 3"):
        load_npz(tmp_path / "file", loaded, strict=False)
    assert loaded.values == {"t": 1}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file `.*model\.npz`"):
        load_npz(tmp_path / "model.npz", model(1.0))


def test_a_folder_is_refused(tmp_path):
    expected = (
        r"load_npz: `.*` is a folder; expected a file written by save_npz; give the "
        "path of the file"
    )
    with pytest.raises(IsADirectoryError, match=expected):
        load_npz(tmp_path, model(1.0))


@pytest.mark.parametrize("compression", [False, True])
def test_a_file_cut_short_is_refused_and_changes_nothing(tmp_path, compression):
    path = tmp_path / "model.npz"
    save_npz(path, model(2.0), compression=compression)
    content = path.read_bytes()
    loaded = model(7.0)
    for length in range(2, len(content), 13):
        path.write_bytes(content[:length])
        with pytest.raises(
            FileFormatError, match=r"model\.npz` is damaged or was cut short"
        ):
            load_npz(path, loaded)
    assert flat(loaded) == flat(model(7.0))


@pytest.mark.parametrize("flipped", [0x01, 0x0C, 0x40, 0xFF])
@pytest.mark.parametrize("compression", [False, True])
def test_damaged_bytes_are_noticed_or_do_no_harm(tmp_path, compression, flipped):
    path = tmp_path / "model.npz"
    save_npz(path, model(2.0), compression=compression)
    content = path.read_bytes()
    refused = 0
    for position in range(flipped % 7, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= flipped
        path.write_bytes(damaged)
        loaded = model(7.0)
        try:
            load_npz(path, loaded)
        except FileFormatError:
            refused += 1
            assert flat(loaded) == flat(model(7.0))
        else:
            assert flat(loaded) == flat(model(2.0))
    assert refused > len(content) / 7 / 2  # the rest are dates, padding and the like


@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize("field", [4, 6, 8, 10, 12, 16, 20, 24, 28, 30, 32, 42])
def test_a_damaged_directory_is_noticed_or_does_no_harm(tmp_path, compression, field):
    """Zip file version, flags, method, time, checksum, sizes, lengths and offset."""
    path = tmp_path / "model.npz"
    save_npz(path, model(2.0), compression=compression)
    content = bytearray(path.read_bytes())
    entry = content.rfind(b"PK\x01\x02")
    for flipped in (0x01, 0x02, 0x04, 0x06, 0x08, 0x0C, 0x40, 0x80, 0xFF):
        damaged = content.copy()
        damaged[entry + field] ^= flipped
        path.write_bytes(damaged)
        loaded = model(7.0)
        try:
            load_npz(path, loaded)
        except FileFormatError:
            assert flat(loaded) == flat(model(7.0))
        else:
            assert flat(loaded) == flat(model(2.0))


def test_an_entry_hidden_by_a_wrong_length_is_missed(tmp_path):
    """The first entry's comment in the directory swallows the second entry."""
    path = tmp_path / "model.npz"
    save_npz(path, model(2.0))
    content = bytearray(path.read_bytes())
    first = content.find(b"PK\x01\x02")
    second = content.find(b"PK\x01\x02", first + 1)
    third = content.find(b"PK\x01\x02", second + 1)
    content[first + 32 : first + 34] = (third - second).to_bytes(2, "little")
    path.write_bytes(content)
    expected = r"is damaged .*3 entries were found, and 4 are counted"
    with pytest.raises(FileFormatError, match=expected):
        load_npz(path, model(7.0), strict=False)


def test_a_damaged_byte_is_found(tmp_path):
    path = tmp_path / "model.npz"
    weights = numpy.random.default_rng(0).random(1000)
    save_npz(path, State(W=weights))
    content = bytearray(path.read_bytes())
    content[4000] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"is damaged .*CRC"):
        load_npz(path, State(W=weights))


@pytest.mark.parametrize("content", [pickle.dumps({"W": [1]}), b"", b"hello world"])
def test_a_foreign_file_is_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"is not an \.npz file, it begins with"):
        load_npz(tmp_path / "file", model(1.0))


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


def test_a_pickle_in_a_file_is_refused_and_not_executed(tmp_path):
    objects = numpy.asarray([Bomb()], dtype=object)
    numpy.savez(tmp_path / "model.npz", W=objects)
    with pytest.raises(FileFormatError, match=r"that is no plain array \('W\.npy': "):
        load_npz(tmp_path / "model.npz", State(W=None))


def test_a_zip_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "file", "w") as archive:
        archive.writestr("notes.txt", "hello world, this is no array at all")
    with pytest.raises(FileFormatError, match=r"that is no plain array \('notes\.txt'"):
        load_npz(tmp_path / "file", State(W=None))


def test_another_compression_is_refused(tmp_path):
    content = io.BytesIO()
    numpy.save(content, numpy.ones(3))
    with zipfile.ZipFile(tmp_path / "file", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("W.npy", content.getvalue())
    with pytest.raises(FileFormatError, match=r"'W.npy' is compressed by method 12"):
        load_npz(tmp_path / "file", State(W=numpy.zeros(3)))


@pytest.mark.parametrize("header", ["{'descr': (", "{'a': 1 1", "1", "\x00"])
def test_an_array_with_a_senseless_header_is_refused(tmp_path, header):
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
    with zipfile.ZipFile(tmp_path / "file", "w") as archive:
        archive.writestr("W.npy", content)
    with pytest.raises(FileFormatError, match=r"that is no plain array \('W\.npy': "):
        load_npz(tmp_path / "file", State(W=None))


@pytest.mark.parametrize("value", [object(), numpy.asarray([None]), {"a": 1j}])
def test_what_only_pickle_could_hold_is_not_written(tmp_path, value):
    (tmp_path / "file").write_text("old")
    with pytest.raises(TypeError, match="serialize: 'value' must"):
        save_npz(tmp_path / "file", State(value=value))
    assert (tmp_path / "file").read_text() == "old"


def test_two_values_of_one_name_are_an_error():
    writer = DictionarySerializer()
    writer("a/b", 1)
    with pytest.raises(ValueError, match="two values are named 'a/b'"):
        writer["a"]("b", 2)


def test_an_interrupted_write_leaves_the_former_file_and_nothing_else(
    tmp_path, monkeypatch
):
    path = tmp_path / "model.npz"
    save_npz(path, model(2.0))

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("vdcore.serializers.npy.write_array", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_npz(path, model(3.0))
    assert [file.name for file in tmp_path.iterdir()] == ["model.npz"]
    monkeypatch.undo()
    assert read_npz(path)["t"] == 2


KILLED = """
import os, signal, sys
import numpy
from vdcore import serializers

class State:
    def serialize(self, serializer):
        serializer("W", numpy.ones(100_000))

path = sys.argv[1]
serializers.save_npz(path, State())

def write_half(file, array, allow_pickle):
    file.write(array.tobytes()[: array.nbytes // 2])
    os.kill(os.getpid(), signal.SIGKILL)

serializers.npy.write_array = write_half
serializers.save_npz(path, State())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_a_process_killed_while_writing_leaves_the_former_file(tmp_path):
    path = tmp_path / "model.npz"
    done = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert done.returncode == -signal.SIGKILL
    loaded = State(W=numpy.zeros(100_000))
    load_npz(path, loaded)
    assert loaded.values["W"].sum() == 100_000


@pytest.mark.parametrize("kind", ["PCG64", "MT19937", "Philox", "SFC64"])
def test_a_generator_continues_exactly(kind):
    bits = getattr(numpy.random, kind)
    rng = numpy.random.Generator(bits(1))
    rng.standard_normal(7, dtype=numpy.float32)
    state = json.loads(json.dumps(generator_state(rng)))
    expected = rng.standard_normal(100, dtype=numpy.float32)
    other = numpy.random.Generator(bits(2))
    restore_generator(other, state)
    assert_array_equal(other.standard_normal(100, dtype=numpy.float32), expected)


def test_the_state_of_another_kind_of_generator_is_refused():
    state = generator_state(numpy.random.Generator(numpy.random.Philox(0)))
    with pytest.raises(ValueError, match=r"must be of a PCG64 .* got one of Philox"):
        restore_generator(numpy.random.default_rng(0), state)


W = numpy.ones((2, 3), numpy.float32)
MODEL = {"l1": State(W=W)}
SNAPSHOT = {
    "updater": State(**{"iterator:main": State(epoch=1), "model:main": model(1.0)})
}
SPARSE = {"header": "{}", "0": State(W=W)}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("saved", "loaded", "expected"),
    [
        (
            MODEL,
            SNAPSHOT,
            "this is a model file, not a snapshot; load it into a model, or give the "
            "path of a snapshot here",
        ),
        (
            SNAPSHOT,
            MODEL,
            "this is a snapshot, not a model file; pass prefix='updater/model:main/' "
            "to take the model out of it",
        ),
        (
            SPARSE,
            MODEL,
            "this is a sparse model file, not a model file; read it by "
            "vdcore.backends.sparse_backend.load",
        ),
        (
            SPARSE,
            SNAPSHOT,
            "this is a sparse model file, not a snapshot; read it by "
            "vdcore.backends.sparse_backend.load",
        ),
    ],
)
def test_a_file_of_another_kind_is_said_to_be(
    tmp_path, saved, loaded, expected, strict
):
    path = tmp_path / "file.npz"
    save_npz(path, State(**saved))
    with pytest.raises(FileFormatError) as raised:
        load_npz(path, State(**loaded), strict=strict)
    assert str(raised.value) == f"load_npz: `{path}` does not fit State: {expected}"
