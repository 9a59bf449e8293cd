"""A neuron in numbers, as the C++ operators take it. The order is that of their schemas in `csrc/ops.cpp`."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from ..alphabet import Alphabet, burst
from ..leak import Charge, Decay, Leak, LearnedDecay
from ..neuron import Neuron
from ..reset import Reset, ToValue
from ..surrogate import ATan, Gaussian, Polynomial, Rectangular, Sigmoid, Surrogate
from ..threshold import DTIF, MSAT, Exponential, Fixed, Radix, Ramp, Reciprocal

RULES = {Fixed: 0, MSAT: 1, Reciprocal: 2, Exponential: 3, Ramp: 4}
CHARGES = {Leak: 0, Decay: 1, LearnedDecay: 2}
SURROGATES = {Rectangular: 0, Polynomial: 1, Gaussian: 2, ATan: 3, Sigmoid: 4}
TILED = 5  # the rectangles of evenly spaced letters, that tile


def rule(neuron: Neuron) -> tuple[int, list[float], bool]:
    """The threshold rule by number, its constants, and whether they are normalised."""
    moves = neuron.threshold
    if isinstance(moves, Fixed):
        return RULES[Fixed], [moves.gain], False
    if isinstance(moves, Radix):
        return RULES[Fixed], moves.gains.tolist(), False
    if isinstance(moves, MSAT):
        constants = [moves.alpha, moves.k_a, moves.k_i, moves.C, moves.tau_mp, moves.tau_rd, moves.guard]
        return RULES[MSAT], constants, moves.normalised
    assert isinstance(moves, DTIF)
    return RULES[type(moves.inverse)], [moves.inverse.beta, moves.rho], False


def law(neuron: Neuron) -> tuple[Any, ...]:
    """Charge, letters and reset: all that a run of a `Fixed` neuron is."""
    return _law(neuron.leak, neuron.alphabet, neuron.reset, neuron.surrogate is not None)


@lru_cache(maxsize=256)
def _law(leak: Charge, letters: Alphabet, reset: Reset, trained: bool) -> tuple[Any, ...]:
    return *_charge(leak), *_alphabet(letters), *_reset(reset, letters, trained)


def _charge(leak: Charge) -> tuple[int, float, float]:
    """The kind of leak, its beta or tau, and where an undriven potential goes."""
    if isinstance(leak, Leak):
        return CHARGES[Leak], leak.beta, 0.0
    assert isinstance(leak, (Decay, LearnedDecay))
    return CHARGES[type(leak)], leak.tau, leak.rest


def _alphabet(alphabet: Alphabet) -> tuple[int, list[float], list[float], bool, bool]:
    """Binary, uniform or a table; its levels and heights; whether it has signs, and a floor."""
    if alphabet.counts:
        alphabet = burst(int(alphabet.ceiling))
    kind = 2 if not alphabet.uniform else 1 if alphabet.signed or len(alphabet.levels) > 1 else 0
    return kind, list(alphabet.levels), list(alphabet.heights), alphabet.signed, alphabet.floor


def _reset(reset: Reset, letters: Alphabet, trained: bool) -> tuple[bool, float, float]:
    """Whether it is hard, what it leaves, and from which potential on: 0 wherever a letter left."""
    if not isinstance(reset, ToValue):
        return False, 0.0, 0.0
    looks = trained and not reset.detach and letters.floor  # a letter may leave below its level
    return True, reset.value, letters.full if reset.at == "full" else letters.levels[0] if looks else 0.0


def slope(neuron: Neuron) -> tuple[list[float], bool, float, int, list[float]]:
    """What stands for the derivative of a letter: the parts of a cascade, whether the reset is detached, the level of a
    hard one, and the surrogate."""
    return _slope(neuron.alphabet, neuron.reset, neuron.surrogate)


@lru_cache(maxsize=256)
def _slope(
    letters: Alphabet, reset: Reset, surrogate: Surrogate | None
) -> tuple[list[float], bool, float, int, list[float]]:
    hit = letters.full if isinstance(reset, ToValue) and reset.at == "full" else letters.levels[0]
    tiled = letters.uniform and not letters.signed and surrogate == Rectangular()
    kind = TILED if tiled else SURROGATES.get(type(surrogate), 0)
    return list(letters.levels) if letters.greedy else [], reset.detach, hit, kind, _widths(surrogate)


def _widths(surrogate: Surrogate | None) -> list[float]:
    """The constants of a surrogate, as its equation has them."""
    match surrogate:
        case Rectangular(a):
            return [a / 2, a]
        case Polynomial(a):
            return [math.sqrt(a) / 2, a / 4]
        case Gaussian(a):
            return [-2 * a, math.sqrt(2 * math.pi * a)]
        case ATan(alpha):
            return [math.pi / 2 * alpha, alpha / 2]
        case Sigmoid(a):
            return [a]
    return []  # nothing flows back
