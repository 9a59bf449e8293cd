"""Named methods of direct training: functions that return a Method whose neuron has a surrogate.

    layer = rheobase.Population(rheobase.methods.mt_lif(4).neuron, threshold=1.0)

Converting with them is refused where the neuron leaks, for it computes no rectifier.
"""

from __future__ import annotations

from collections.abc import Callable

from .alphabet import Alphabet, burst, cascade, parallel, ternary
from .leak import Charge, Leak, LearnedDecay
from .method import Method
from .reset import Subtract, ToValue
from .spec import nearest, require
from .surrogate import ATan, Rectangular


def lif(leak: float = 0.5) -> Method:
    """Baseline: one threshold, a fixed leak, the rectangular surrogate [wu2018stbp]."""
    return Method(leak=Leak(leak), surrogate=Rectangular())


def plif(tau: float = 2.0) -> Method:
    """Baseline: one threshold, a time constant learned for each layer, the reset detached [fang2021plif]."""
    return Method(leak=LearnedDecay(tau), reset=Subtract(detach=True), surrogate=ATan())


def mt_lif(k: int = 4, leak: float = 0.5) -> Method:
    """k thresholds above each other, a fixed leak: our reconstruction of multi-threshold LIF [xu2022mtlif]."""
    return Method(alphabet=burst(k), leak=Leak(leak), surrogate=Rectangular())


def mt_snn(levels: int = 4, mode: str = "parallel", ladder: str = "equal", leak: Charge = LearnedDecay(2.0)) -> Method:
    """One threshold in parts, compared in parallel or in a cascade: our reconstruction of MT-SNN [wang2023mtsnn].

    theta0 is the smallest part.
    """
    modes = {"parallel": parallel, "cascade": cascade}
    letters = modes[nearest(mode, modes, "mode")](levels, ladder)
    return Method(alphabet=letters, leak=leak, reset=Subtract(detach=True), surrogate=ATan())


def lm_ht(levels: int = 2) -> Method:
    """Equidistant thresholds without a leak, the reset detached; no mixing of time steps [hao2024lmht]."""
    return Method(alphabet=burst(levels), reset=Subtract(detach=True), surrogate=Rectangular())


def i_lif(levels: int = 4, leak: float = 0.25) -> Method:
    """Whole numbers that round the potential, run on binary steps once lowered: our reconstruction [luo2024ilif]."""
    require(levels >= 1, f"i_lif(levels={levels}) has no level")
    rounding = Alphabet(levels=tuple(k + 0.5 for k in range(levels)), heights=(1.0,) * levels)
    return Method(alphabet=rounding, leak=Leak(leak), surrogate=Rectangular())


def ternary_spike(leak: float = 0.25) -> Method:
    """Letters -1, 0, 1, a hard reset; `TernarySpike` learns what one is worth: our reconstruction [guo2024ternary]."""
    return Method(alphabet=ternary, leak=Leak(leak), reset=ToValue(0.0), surrogate=Rectangular())


DIRECT: dict[str, Callable[..., Method]] = {
    made.__name__: made for made in (lif, plif, mt_lif, mt_snn, lm_ht, i_lif, ternary_spike)
}
