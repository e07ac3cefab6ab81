"""Standard normal numbers from a counter, so that threads can share the work.

Random bits are those of Philox4x32-10 (Salmon et al., SC 2011): the numbers of a draw
are encryptions of their positions, under a key taken from the generator.
"""

from __future__ import annotations

import math

import numpy

from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.memory import empty
from vdcore.backends.cpu.team import parallel_for, team
from vdcore.backends.cpu.vector_math import f, i, log

PIECE = 4096  # numbers that are drawn at a time

u = numpy.uint64
MULTIPLIERS = u(0xD2511F53), u(0xCD9E8D57)
KEY_STEPS = u(0x9E3779B9), u(0xBB67AE85)
WORD, LOW = u(32), u(0xFFFFFFFF)
ONE, HALF = f(1), f(0.5)

# (sin(x) - x) / x^3 and (cos(x) - 1 + x^2/2) / x^4 on |x| <= pi/4, as polynomials of
# x^2 with the coefficients of the Cephes library.
S0, S1, S2 = f(-1.9515295891e-4), f(8.3321608736e-3), f(-1.6666654611e-1)
C0, C1, C2 = f(2.443315711809948e-5), f(-1.388731625493765e-3), f(4.166664568298827e-2)


def draw(bits: numpy.random.BitGenerator, shape: tuple[int, ...]) -> numpy.ndarray:
    """Draw float32 numbers by a key of 128 bits from `bits`."""
    normal = empty(shape, numpy.float32)
    key = bits.random_raw(4) & 0xFFFFFFFF
    pieces = -(-normal.size // PIECE)
    _fill(team(pieces), pieces, key, normal.reshape(-1))
    return normal


@jit()
def _fill(board, pieces, key, normal):
    parallel_for(board, pieces, _fill_piece, (key, normal))


@jit()
def _fill_piece(key, normal, piece):
    quarter = PIECE // 4
    words = numpy.empty((4, quarter), numpy.uint32)
    philox(0, piece, key, words[0], words[1], words[2], words[3])
    drawn = numpy.empty(PIECE, numpy.float32)
    box_muller(words[0], words[1], drawn[:quarter], drawn[quarter : 2 * quarter])
    box_muller(
        words[2], words[3], drawn[2 * quarter : 3 * quarter], drawn[3 * quarter :]
    )
    part = normal[piece * PIECE : (piece + 1) * PIECE]
    part[:] = drawn[: part.size]


@jit()
def philox(position, block, key, first, second, third, fourth):
    """Encrypt the counters (position + j, block, key[2], key[3]) under key[:2]."""
    for j in range(first.size):
        # In registers of 64 bits, as the products have 64.
        a, b, c, d = u(position + j), u(block), key[2], key[3]
        left, right = key[0], key[1]
        for _ in range(10):
            p, q = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
            a, b, c, d = (
                (q >> WORD) ^ b ^ left,
                q & LOW,
                (p >> WORD) ^ d ^ right,
                p & LOW,
            )
            left, right = (left + KEY_STEPS[0]) & LOW, (right + KEY_STEPS[1]) & LOW
        first[j], second[j], third[j], fourth[j] = a, b, c, d


@jit()
def box_muller(words, angles, first, second):
    """Two independent normal numbers from each pair of words (Box, Muller 1958).

    Uniform numbers have 24 bits, so that draws stay within 5.8 standard deviations.
    """
    unit = f(2.0**-24)
    # The angle 2 pi u is a quarter turn k plus x in [-pi/4, pi/4].
    for j in range(words.size):
        radius = math.sqrt(f(-2) * log(f(i(words[j] >> 8) + i(1)) * unit))
        turn = f(i(angles[j] >> 8)) * unit
        k = i(turn * f(4) + HALF)
        x = (turn - f(k) * f(0.25)) * f(2 * math.pi)
        z = x * x
        sine = x + x * z * ((S0 * z + S1) * z + S2)
        cosine = ONE - HALF * z + z * z * ((C0 * z + C1) * z + C2)
        turned = (k & i(1)) == i(1)
        a = sine if turned else cosine
        b = cosine if turned else sine
        first[j] = radius * (-a if ((k + i(1)) & i(2)) == i(2) else a)
        second[j] = radius * (-b if (k & i(2)) == i(2) else b)
