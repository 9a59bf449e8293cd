"""The named methods: functions that return a Method. `rheobase methods` lists those that convert."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from . import alphabet
from .alphabet import Alphabet, power_of_two, signed, ternary
from .alphabet import burst as sent
from .correction import ChannelBias, NeuronStart, StepBias
from .direct import DIRECT
from .direct import i_lif as i_lif
from .direct import lif as lif
from .direct import lm_ht as lm_ht
from .direct import mt_lif as mt_lif
from .direct import mt_snn as mt_snn
from .direct import plif as plif
from .direct import ternary_spike as ternary_spike
from .gate import Open, SentCharge, SpikeConfidence, Wait
from .initial import Half, Matched, Zero
from .link import Differential
from .method import Method
from .rehearsal import COS, Residual
from .scale import Balance, Fitted, GaussianMSE, Learned, Max, MinMSE, Percentile, Scale
from .spec import nearest, require
from .threshold import DTIF, MSAT, MSAT_RESNET20, MSAT_RESNET20_CIFAR10, MSAT_VGG16, Fixed, Radix
from .tuning import Distilled


def max_norm() -> Method:
    """Baseline: theta is the largest activation of the layer, v0 = 0 [diehl2015balancing]."""
    return Method(scale=Max())


def constant(fraction: float = 0.5) -> Method:
    """Baseline of MSAT's authors: theta is a constant fraction of the largest activation [he2024msat]."""
    require(0 < fraction <= 1, f"constant({fraction}) must lie in (0, 1]")
    return Method(scale=Max(), threshold=Fixed(fraction))


def percentile(p: float = 99.9, *, channelwise: bool = False) -> Method:
    """Baseline: theta is the p-th percentile of the activations, v0 = 0 [rueckauer2017conversion]."""
    return Method(scale=Percentile(p, channelwise))


def opi(scale: Scale = Learned()) -> Method:
    """Optimised potential initialisation: v0 = theta / 2 [bu2022opi].

    theta is lambda on a network trained with Clip or QCFS, and the 99.9th percentile on a plain one.
    """
    return Method(scale=scale, initial=Half())


def msat(threshold: MSAT = MSAT_VGG16, *, confidence: bool = False) -> Method:
    """Multi-stage adaptive threshold, both stages; with `confidence` also its spike confidence [he2024msat].

    The constants are VGG-16's; `MSAT_RESNET20` and `MSAT_RESNET20_CIFAR10` are the authors' for their ResNet.
    """
    return Method(scale=Max(), threshold=threshold, gate=SpikeConfidence() if confidence else Open())


def msat_resnet20(*, confidence: bool = False) -> Method:
    """`msat` with the authors' constants for ResNet-20 on CIFAR-100 and most of CIFAR-10 [he2024msat]."""
    return msat(MSAT_RESNET20, confidence=confidence)


def msat_resnet20_cifar10(*, confidence: bool = False) -> Method:
    """`msat` with the authors' best constants for ResNet-20 on CIFAR-10 [he2024msat]."""
    return msat(MSAT_RESNET20_CIFAR10, confidence=confidence)


def dtif(threshold: DTIF = DTIF()) -> Method:
    """DTIF-style reciprocal threshold, our reconstruction, not the authors' formula [wu2023dtif]."""
    return Method(scale=Max(), threshold=threshold, alphabet=sent(max(1, -int(-1 / threshold.rho // 1))))


def burst(k: int = 5, scale: Scale = Percentile(99.9)) -> Method:
    """Burst spikes: up to k spikes a step let a neuron catch up; v0 = 0 [li2022burst]."""
    return Method(scale=scale, alphabet=sent(k), initial=Zero())


def qcfs() -> Method:
    """For a network trained with QCFS: theta = lambda, v0 = lambda / 2 [bu2022qcfs]; as OPI on a clipped network."""
    return Method(scale=Learned(), initial=Half())


def snm(scale: Scale = Percentile(99.9)) -> Method:
    """Signed neuron with memory: a negative spike takes back charge that was sent too early [wang2022snm]."""
    return Method(scale=scale, initial=Half(), alphabet=ternary, gate=SentCharge())


def snnc(steps: int = 4, *, potential: bool = False) -> Method:
    """SNN calibration: thresholds of least squared error, a bias per channel; forward only [li2021calibration].

    potential: a start for each neuron instead of the bias, as its authors calibrate potentials. Their tuning of weights
    is not part of it; `distilled(weights=...)` is ours.
    """
    calibrated = NeuronStart(steps) if potential else ChannelBias(steps)
    return Method(scale=MinMSE(steps), initial=Half(), correction=calibrated)


def ftbc(steps: int = 4, scale: Scale = Max(channelwise=True)) -> Method:
    """Forward temporal bias correction: a bias per channel and step; here on the sum sent so far [wu2024ftbc]."""
    return Method(scale=scale, initial=Half(), correction=StepBias(steps))


def ltb(updates: int = 392) -> Method:
    """Local threshold balancing: thresholds that grow by what they clip, read with `Delayed` [bu2025inference]."""
    return Method(scale=Balance(updates=updates), initial=Half())


def srp(steps: int = 4, scale: Scale = Learned()) -> Method:
    """Residual membrane potential: `steps` rehearsal steps tell which neurons must stay silent [hao2023srp].

    For a network trained with QCFS, as its authors use it; any other is taken too.
    """
    return Method(scale=scale, initial=Half(), rehearsal=Residual(steps))


def cos(steps: int = 4, scale: Scale = Learned()) -> Method:
    """Calibrated offset spikes: `steps` rehearsal steps shift each start by one spike; our reconstruction [hao2023cos].

    For a network trained with QCFS, as its authors use it; any other is taken too.
    """
    return Method(scale=scale, initial=Half(), rehearsal=COS(steps))


def wait(steps: int = 4, letters: int = 1) -> Method:
    """Accumulate, then fire: each layer waits for all T inputs; thresholds for T * letters levels [hao2025parallel].

    Our reconstruction, with the bias per channel of [li2021calibration].
    """
    return Method(
        scale=MinMSE(steps * letters),
        initial=Half(),
        alphabet=sent(letters),
        gate=Wait(),
        correction=ChannelBias(steps),
    )


def radix(steps: int = 4, letters: int = 1) -> Method:
    """Radix encoding: `steps` digits of base letters + 1, so few steps hold many levels [wang2024radix].

    letters: 1, 3, 7 or 15. The conversion is ours: thresholds and starts fitted together as in `fitted`; for more than
    255 levels above 0 thresholds of least squared error and the half start.
    """
    digits = Radix(steps=steps, base=letters + 1)
    few = digits.levels <= 255
    return Method(
        scale=Fitted(digits.levels) if few else MinMSE(digits.levels),
        threshold=digits,
        initial=Matched() if few else Half(),
        alphabet=sent(letters),
        gate=Wait(),
    )


def mth(steps: int = 4, bits: int = 4) -> Method:
    """One signed power of two a step, at most: multi-threshold neurons, Gaussian thresholds [huang2025differential]."""
    letters = power_of_two(bits)
    scale = GaussianMSE(steps * round(letters.ceiling / letters.unit))
    return Method(scale=scale, alphabet=letters, gate=SentCharge(letters.letters))


def minifloat(steps: int = 1, exponent: int = 2, mantissa: int = 2) -> Method:
    """One event a step, at most, that is a small float: letters that lie closer where activations are many.

    Thresholds per channel of least squared error for what `steps` letters can say, a bias per channel and step; from
    two steps on letters of both signs against charge already sent. exponent=2, mantissa=2 are four bits. The letters
    are a number format of quantised networks [rouhani2023microscaling]; as spikes they are ours.
    """
    return _rounding(steps, partial(alphabet.minifloat, exponent, mantissa))


def codebook(steps: int = 1, letters: int = 15) -> Method:
    """One event a step, at most, that is the number of a letter in a table: the letters of least squared error.

    Otherwise as `minifloat`. 15 letters are four bits. The table is the quantiser of [lloyd1982least] for activations
    that are many near zero and few far from it; as spikes its letters are ours.
    """
    return _rounding(steps, partial(alphabet.codebook, letters))


def _rounding(steps: int, made: Callable[..., Alphabet]) -> Method:
    """Letters to which a potential is rounded, of both signs from two steps on."""
    require(steps >= 1, f"steps={steps}: letters need a step to leave in")
    several = steps > 1
    letters = made(signed=several)
    return Method(
        scale=MinMSE(letters.levels_of(steps)),
        alphabet=letters,
        gate=SentCharge(letters.letters) if several else Open(),
        correction=StepBias(steps),
    )


def dcgs(steps: int = 4, bits: int = 4) -> Method:
    """Differential coding: `mth` whose messages are changes of the mean that readers hold [huang2025differential]."""
    return replace(mth(steps, bits), link=Differential())


def best(steps: int = 4, letters: int = 3) -> Method:
    """The parts of the field that help most at few steps, each by itself: `steps` time steps, letters up to `letters`.

    Thresholds per channel of least squared error for steps * letters levels, the half start, negative letters against
    charge already sent (for more than one step), and a bias per channel and step [li2021calibration] [wu2024ftbc].
    letters=1: binary spikes at one step, ternary ones from two steps on.
    """
    require(steps >= 1, f"best(steps={steps}) has no step")
    several = steps > 1
    return Method(
        scale=MinMSE(steps * letters),
        initial=Half(),
        alphabet=signed(letters, floor=True) if several else sent(letters),
        gate=SentCharge() if several else Open(),
        correction=StepBias(steps),
    )


def fitted(steps: int = 4, letters: int = 3) -> Method:
    """`best` with thresholds and starts that are fitted together, layer after layer, on inputs converted already.

    Forward passes only; the solver is ours. With one letter, spikes that wait for all of the input [hao2025parallel].
    """
    require(steps >= 1, f"fitted(steps={steps}) has no step")
    scale, start = Fitted(steps * letters), Matched()
    if steps == 1 or letters == 1:
        return Method(scale=scale, initial=start, alphabet=sent(letters), gate=Wait() if steps > 1 else Open())
    several = signed(letters, floor=True)
    return Method(scale=scale, initial=start, alphabet=several, gate=SentCharge(), correction=StepBias(steps))


def distilled(steps: int = 4, letters: int = 3, passes: int = 20, *, weights: float = 0.0) -> Method:
    """`fitted`, and then all thresholds and starts learned together until the answers are those of the network.

    No labels; gradient descent on the calibration data, ours [hinton2015distilling]. No weight is changed unless
    `weights`, the rate at which they are tuned too, is above 0.
    """
    return replace(fitted(steps, letters), tuning=Distilled(passes, weights=weights))


NAMED: dict[str, Callable[..., Method]] = {
    made.__name__: made
    for made in (
        max_norm, constant, percentile, opi, msat, msat_resnet20, msat_resnet20_cifar10, dtif, burst, qcfs, snm, snnc,
        ftbc, ltb, srp, cos, wait, radix, mth, dcgs, minifloat, codebook, best,
        fitted, distilled,
    )
}  # fmt: skip


def named(name: str) -> Method:
    """The method of a name, with its defaults; SpecError with the nearest names if there is none."""
    known = NAMED | DIRECT
    return known[nearest(name, known, "method")]()
