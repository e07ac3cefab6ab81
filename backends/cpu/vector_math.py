"""Functions of float32 that the compiler turns into vector code.

It cannot do that with calls of the C library, so these are polynomials.
"""

from __future__ import annotations

import numpy

from vdcore.backends.cpu.jit import jit

f = numpy.float32
i = numpy.int32

# exp(x) = 2^n exp(r) with r = x - n log 2, where log 2 is split so that n times its
# first part is exact, and exp(r) = 1 + r + r^2 P(r) on |r| <= log(2) / 2; coefficients
# of the Cephes library, as those of the logarithm.
LOG2_HIGH, LOG2_LOW, INVERSE_LOG2 = f(0.693359375), f(-2.12194440e-4), f(1.44269504)
P0, P1, P2 = f(5.0000001201e-1), f(1.6666665459e-1), f(4.1665795894e-2)
P3, P4, P5 = f(8.3334519073e-3), f(1.3981999507e-3), f(1.9875691500e-4)

# log(2^n (1 + r)) = n log 2 + r - r^2 / 2 + r^3 L(r) on sqrt(1/2) <= 1 + r < sqrt(2).
SQRT_HALF = f(0.70710678)
L0, L1, L2 = f(7.0376836292e-2), f(-1.1514610310e-1), f(1.1676998740e-1)
L3, L4, L5 = f(-1.2420140846e-1), f(1.4249322787e-1), f(-1.6668057665e-1)
L6, L7, L8 = f(2.0000714765e-1), f(-2.4999993993e-1), f(3.3333331174e-1)

# (tanh(x) - x) / x^3 on |x| < 0.625 as a polynomial of x^2, of the Cephes library too.
T0, T1, T2 = f(-5.70498872745e-3), f(2.06390887954e-2), f(-5.37397155531e-2)
T3, T4 = f(1.33314422036e-1), f(-3.33332819422e-1)


@jit(inline="always")
def exp(x):
    """Exponential to a relative error of 1e-7; `x` limited to [-87, 88], NaN stays."""
    x = f(-87) if x < f(-87) else x
    x = f(88) if x > f(88) else x
    n = numpy.floor(x * INVERSE_LOG2 + f(0.5))  # math.floor leads to float64
    r = x - n * LOG2_HIGH - n * LOG2_LOW
    p = ((((P5 * r + P4) * r + P3) * r + P2) * r + P1) * r + P0
    power_of_2 = i((i(n) + i(127)) << i(23)).view(numpy.float32)
    return (f(1) + r + r * r * p) * power_of_2


@jit(inline="always")
def log(x):
    """Logarithm of a positive normal number to a relative error of 1e-7; NaN stays."""
    bits = f(x).view(numpy.int32)
    n = i((bits >> i(23)) - i(126))
    r = i((bits & i(0x7FFFFF)) | i(0x3F000000)).view(numpy.float32)  # in [1/2, 1)
    low = r < SQRT_HALF
    exponent = f(n) - (f(1) if low else f(0))
    r = r + (r if low else f(0)) - f(1)
    z = r * r
    q = ((((((L0 * r + L1) * r + L2) * r + L3) * r + L4) * r + L5) * r + L6) * r + L7
    q = (q * r + L8) * r * z
    result = r + (q + exponent * LOG2_LOW - f(0.5) * z) + exponent * LOG2_HIGH
    return result if x == x else x


@jit(inline="always")
def sigmoid(x):
    """Logistic function to a relative error of 2e-7; NaN stays."""
    return f(1) / (f(1) + exp(-x))


@jit(inline="always")
def tanh(x):
    """Hyperbolic tangent to a relative error of 3e-7; NaN stays."""
    z = x * x
    near = x + x * z * ((((T0 * z + T1) * z + T2) * z + T3) * z + T4)
    size = abs(x)
    far = f(1) - f(2) / (f(1) + exp(f(2) * size))
    far = -far if x < f(0) else far
    return near if size < f(0.625) else far
