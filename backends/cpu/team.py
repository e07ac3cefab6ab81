"""Threads that share compiled work without the interpreter's lock.

A Python thread takes 0.1 ms and more to take up work, because it has to be woken and to
wait for the interpreter's lock. Members of a team wait inside compiled code instead,
watching a board in memory, and take up work within a microsecond. A member that has
found nothing to do for a millisecond or so leaves the processor to others; the next
call wakes it and does not wait for it.
"""

from __future__ import annotations

import os
import platform
import threading
from queue import SimpleQueue

import numpy
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.threads import thread_count

# mypy: ignore-errors
# Numba gives these functions their types, and intrinsics their arguments.

# What the places of a board hold: parts that nobody has taken yet, parts finished and
# parts that failed, the function that does a part with the address of its arguments,
# whether the team is at work, members asleep. What many threads write lies cache lines
# apart.
PENDING, DONE, FAILED, BODY, ARGUMENTS, BUSY, ASLEEP = 0, 16, 17, 32, 33, 48, 64
PLACES = 80
FAILURE = "a thread could not allocate memory"
PATIENCE = 4_000  # glances at an empty board before a member sleeps: a millisecond
GLANCES = 2_000  # of them before it lets other threads run between two

_INT = ir.IntType(64)
_PART = ir.FunctionType(_INT, [_INT, _INT])  # 1 if it failed
_YIELD_HINT = ir.IntType(32)(1)
_MACHINE = platform.machine().lower()
_ALONE = numpy.zeros(PLACES, numpy.int64)


def team(parts: int, threads: int | None = None) -> numpy.ndarray:
    """The board to give a compiled function that shares its work in `parts`.

    The team has :func:`~vdcore.backends.cpu.threads.thread_count` threads by default;
    the caller is one of them.
    """
    threads = thread_count() if threads is None else threads
    if parts < 2 or threads < 2:
        return _ALONE
    team_of_size = _teams.get(threads)
    if team_of_size is None:
        with _founding:
            team_of_size = _teams.get(threads) or _found(threads)
            _teams[threads] = team_of_size
    board, bell = team_of_size
    if board[ASLEEP]:
        for _ in range(_wake(board, parts - 1)):
            bell.put(None)
    return board


_teams: dict[int, tuple[numpy.ndarray, SimpleQueue[None]]] = {}
_founding = threading.Lock()


def _found(threads: int) -> tuple[numpy.ndarray, SimpleQueue[None]]:
    board = numpy.zeros(PLACES, numpy.int64)
    bell: SimpleQueue[None] = SimpleQueue()

    def member() -> None:
        while True:
            _attend(board)
            bell.get()

    for _ in range(threads - 1):
        threading.Thread(target=member, name="vdcore", daemon=True).start()
    return board, bell


def _leave_to_parent() -> None:
    """Forget the teams in a forked process, where their threads do not exist."""
    global _founding
    _founding = threading.Lock()
    _teams.clear()
    _ALONE[:] = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


@intrinsic
def parallel_for(typing_context, board, parts, body, arguments):
    """Call ``body(*arguments, part)`` for each part from 0 to `parts` - 1, at once.

    Within a compiled function, with the :func:`team` it was given. `body` is compiled
    too and returns nothing. Which thread does which part is left to chance. A team at
    work already, for another thread or in `body` itself, leaves all to the caller.
    Once all parts have ended, it raises MemoryError if one failed: a body may allocate,
    and should fail for no other reason.
    """
    share = typing_context.resolve_value_type(_share.compiled)
    inner = body.get_call_type(typing_context, (*arguments.types, types.int64), {})

    def generate(context, builder, signature, values):
        # A function of two addresses and no more, which any member can call: it
        # unpacks the arguments, which stay in the caller's memory until all is done.
        compiled = body.dispatcher.get_compile_result(inner)
        context.active_code_library.add_linking_library(compiled.library)
        packed = values[3].type
        name = builder.module.get_unique_name(builder.function.name + ".part")
        function = ir.Function(builder.module, _PART, name=name)
        function.linkage = "internal"
        within = ir.IRBuilder(function.append_basic_block())
        address = within.inttoptr(function.args[0], packed.as_pointer())
        unpacked = cgutils.unpack_tuple(within, within.load(address))
        status, _ = context.call_conv.call_function(
            within,
            context.declare_function(builder.module, compiled.fndesc),
            compiled.fndesc.restype,
            compiled.fndesc.argtypes,
            [*unpacked, function.args[1]],
        )
        within.ret(within.zext(status.is_error, _INT))
        place = cgutils.alloca_once_value(builder, values[3])
        addresses = [builder.ptrtoint(x, _INT) for x in (function, place)]
        sharing = share.get_call_type(typing_context, (board, *[types.int64] * 3), {})
        implementation = context.get_function(share, sharing)
        context.add_linking_libs(getattr(implementation, "libs", ()))
        implementation(builder, [values[0], values[1], *addresses])
        return context.get_dummy_value()

    return types.void(board, types.int64, body, arguments), generate


@jit()
def _share(board, parts, body, arguments):
    failed = 0
    if parts < 2 or not _swap(board, BUSY, 0, 1):
        for part in range(parts):
            failed += _call(body, arguments, part)
    else:
        _store(board, BODY, body)
        _store(board, ARGUMENTS, arguments)
        _store(board, DONE, 0)
        _store(board, FAILED, 0)
        _store(board, PENDING, parts)
        _take_parts(board)
        glances = 0
        while _load(board, DONE) < parts:
            glances += 1
            _wait(glances)
        failed = _load(board, FAILED)
        _store(board, BUSY, 0)
    if failed:
        raise MemoryError(FAILURE)


@jit()
def _take_parts(board):
    while True:
        pending = _load(board, PENDING)
        if pending <= 0:
            return
        # Whoever has taken a part may read body and arguments, and nobody before: they
        # stay as they are until it is finished.
        if _swap(board, PENDING, pending, pending - 1):
            failed = _call(_load(board, BODY), _load(board, ARGUMENTS), pending - 1)
            if failed:
                add(board, FAILED, failed)
            add(board, DONE, 1)


@jit()
def _attend(board):
    glances = 0
    while glances < PATIENCE:
        if _load(board, PENDING) > 0:
            _take_parts(board)
            glances = 0
        else:
            glances += 1
            _wait(glances)
    add(board, ASLEEP, 1)


@jit()
def _wake(board, wanted):
    """Strike up to `wanted` members off those asleep; how many."""
    while True:
        asleep = _load(board, ASLEEP)
        woken = min(asleep, wanted)
        if _swap(board, ASLEEP, asleep, asleep - woken):
            return woken


@jit()
def _wait(glances):
    if glances < GLANCES:
        _pause()
    else:
        _yield()


def _place(context, builder, signature, values):
    board = context.make_array(signature.args[0])(context, builder, values[0])
    return builder.gep(board.data, [values[1]])


@intrinsic
def _load(typing_context, board, place):
    def generate(context, builder, signature, values):
        address = _place(context, builder, signature, values)
        return builder.load_atomic(address, "seq_cst", 8)

    return types.int64(board, types.int64), generate


@intrinsic
def _store(typing_context, board, place, value):
    def generate(context, builder, signature, values):
        address = _place(context, builder, signature, values)
        builder.store_atomic(values[2], address, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(board, types.int64, types.int64), generate


@intrinsic
def add(typing_context, board, place, value):
    """Add to what a place of a board, or of other integers, holds; what it held."""

    def generate(context, builder, signature, values):
        address = _place(context, builder, signature, values)
        return builder.atomic_rmw("add", address, values[2], "seq_cst")

    return types.int64(board, types.int64, types.int64), generate


@intrinsic
def _swap(typing_context, board, place, old, new):
    """Write `new` where `old` is; whether it was."""

    def generate(context, builder, signature, values):
        address = _place(context, builder, signature, values)
        outcome = builder.cmpxchg(address, values[2], values[3], "seq_cst", "seq_cst")
        return builder.extract_value(outcome, 1)

    return types.boolean(board, types.int64, types.int64, types.int64), generate


@intrinsic
def _call(typing_context, function, arguments, part):
    def generate(context, builder, signature, values):
        function = builder.inttoptr(values[0], _PART.as_pointer())
        return builder.call(function, values[1:])

    return types.int64(types.int64, types.int64, types.int64), generate


@intrinsic
def _pause(typing_context):
    """Let the other thread of the same core go ahead."""

    def generate(context, builder, signature, values):
        if _MACHINE in ("x86_64", "amd64"):
            _call_by_name(builder, "llvm.x86.sse2.pause", ir.VoidType())
        elif _MACHINE in ("aarch64", "arm64"):
            _call_by_name(builder, "llvm.aarch64.hint", ir.VoidType(), _YIELD_HINT)
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _yield(typing_context):
    """Let another thread that is ready have this core."""

    def generate(context, builder, signature, values):
        if os.name == "posix":  # elsewhere the core is kept
            _call_by_name(builder, "sched_yield", ir.IntType(32))
        return context.get_dummy_value()

    return types.void(), generate


def _call_by_name(builder, name, result, *arguments):
    function_type = ir.FunctionType(result, [x.type for x in arguments])
    function = cgutils.get_or_insert_function(builder.module, function_type, name)
    builder.call(function, arguments)
