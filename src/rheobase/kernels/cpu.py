"""The C++ kernels: T steps of a neuron in one pass, and convolution of events. Built at install if there is a compiler.

Both run on PyTorch's own threads, in float32, with the widest instructions the machine has (AVX-512, AVX2 or plain).
The neuron takes every step in the order and rounding of the reference: the same bits, except that exp and ln of MSAT
and of the exponential DTIF are its own, good to two units in the last place.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from ..alphabet import Alphabet, burst
from ..gate import Open, SentCharge, SpikeConfidence, Wait
from ..leak import Leak
from ..link import Rate
from ..membrane import Membrane, Tensors
from ..neuron import Emission, Neuron, begin, drives
from ..reset import Subtract, ToValue
from ..threshold import DTIF, MSAT, Exponential, Fixed, Ramp, Reciprocal

RULES = {Fixed: 0, MSAT: 1, Reciprocal: 2, Exponential: 3, Ramp: 4}
SETS = ("plain", "AVX2", "AVX-512", "AVX-512 VNNI")


def _load() -> str:
    """Load the operators; why there are none, or an empty string."""
    found = find_spec("rheobase.kernels._cpu")
    if found is None or found.origin is None:
        return "the C++ kernels were not built: pip install --no-build-isolation, with a compiler and torch installed"
    try:
        torch.ops.load_library(found.origin)
    except OSError as error:
        return f"the C++ kernels do not load: {str(error).splitlines()[0]}"
    return ""


MISSING = _load()


def instruction_set(name: str | None = None) -> str:
    """The instructions in use, one of `SETS`; `name` chooses less than the best, for tests."""
    return SETS[torch.ops.rheobase.instruction_set(SETS.index(name) if name else -1)]


def declines(neuron: Neuron, tensors: Tensors | None = None, xs: Tensor | None = None) -> str:
    """Why the C++ kernel does not run a neuron on such drives, or an empty string if it does."""
    if MISSING:
        return MISSING
    if not isinstance(neuron.threshold, (Fixed, MSAT, DTIF)):
        return f"it knows no {type(neuron.threshold).__name__} threshold"
    if not isinstance(neuron.reset, (Subtract, ToValue)) or not isinstance(
        neuron.gate, (Open, SentCharge, SpikeConfidence, Wait)
    ):
        return "it knows no such reset or gate"
    if not isinstance(neuron.leak, Leak) or (isinstance(neuron.reset, ToValue) and neuron.reset.at != "first"):
        return "it knows no such leak, or no hard reset at the full threshold"
    if neuron.alphabet.greedy and not neuron.alphabet.counts:
        return "it knows no cascade whose letters are no count"
    if isinstance(neuron.gate, SentCharge) and neuron.gate.letters:
        return "it takes back whole letters only"
    if not isinstance(neuron.link, Rate):
        return "it knows rates only"
    if xs is None or tensors is None:
        return ""
    if xs.device.type != "cpu" or xs.dtype != torch.float32:
        return f"it runs float32 on the CPU, not {xs.dtype} on {xs.device.type}"
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (xs, *tensors)):
        return "it has no gradient"
    if not _dense(xs[0]):
        return "the drives are not dense in memory"
    if tensors.theta0.ndim >= xs.ndim - 1 and tensors.theta0.shape[0] != 1:
        return "its thresholds differ from sample to sample"
    return ""


def _dense(x: Tensor) -> bool:
    """Whether the samples of `x` `[N, ...]` lie one after the other without gaps, whatever the order within one."""
    size = x[0].numel()
    inner = sorted((stride, n) for stride, n in zip(x.stride()[1:], x.shape[1:], strict=True) if n > 1)
    expected = 1
    for stride, n in inner:
        if stride != expected:
            return False
        expected *= n
    return x.shape[0] == 1 or x.stride(0) == size


def run(neuron: Neuron, tensors: Tensors, xs: Tensor, m: Membrane | None) -> tuple[Emission, Membrane]:
    """`emissions` of the law in one pass over `xs` `[T, N, ...]`."""
    m = begin(neuron, tensors, xs, m)
    xs = drives(neuron, tensors, xs, m.t)
    steps, shape, size = len(xs), xs.shape[1:], xs[0].numel()
    layout = (size, *xs.stride()[1:])
    letters = torch.empty_strided(xs.shape, layout)
    amplitude = torch.empty_strided(xs.shape, layout) if neuron.threshold.graded else None
    v = torch.empty_strided(shape, layout[1:]).copy_(m.v)
    total, sent = (
        tuple(torch.empty_strided(shape, layout[1:]).copy_(part) for part in parts) for parts in (m.threshold, m.gate)
    )
    torch.ops.rheobase.neuron(
        xs.as_strided((steps, size), (xs.stride(0) if steps > 1 else size, 1)),
        v,
        total[0] if total else None,
        sent[0] if sent else None,
        letters,
        amplitude,
        _per_sample(tensors.theta0, xs[0]),
        int(m.t),
        *arguments(neuron),
    )
    if isinstance(neuron.gate, SpikeConfidence):
        for step in range(min(steps, max(0, neuron.gate.steps - int(m.t)))):
            letters[step] = neuron.gate(letters[step], tensors, Membrane(v, m.t + step))
    worth = (
        neuron.threshold.amplitude(tensors.theta0, _rest(neuron, tensors.theta0)) if amplitude is None else amplitude
    )
    return Emission(letters, worth), Membrane(v, m.t + steps, total, sent)


def _rest(neuron: Neuron, theta0: Tensor) -> Tensor:
    return neuron.threshold.gain * theta0 if isinstance(neuron.threshold, Fixed) else theta0


def _per_sample(theta0: Tensor, x: Tensor) -> Tensor:
    """One threshold, or one for each neuron in the order in which a sample of `x` lies in memory."""
    if theta0.numel() == 1:
        return theta0.detach().reshape(1)
    one = torch.empty_strided((1, *x.shape[1:]), (x[0].numel(), *x.stride()[1:]))
    return one.copy_(theta0.expand(1, *x.shape[1:])).as_strided((one.numel(),), (1,))


def arguments(neuron: Neuron) -> tuple[object, ...]:
    """What the operators are told of a neuron: rule, letters, leak and reset."""
    return (
        *_rule(neuron),
        *_alphabet(neuron.alphabet),
        neuron.leak.beta if isinstance(neuron.leak, Leak) else 1.0,
        isinstance(neuron.reset, ToValue),
        neuron.reset.value if isinstance(neuron.reset, ToValue) else 0.0,
    )


def _rule(neuron: Neuron) -> tuple[int, list[float], bool]:
    """The threshold rule by number, its constants, and whether they are normalised."""
    rule = neuron.threshold
    if isinstance(rule, Fixed):
        return RULES[Fixed], [rule.gain], False
    if isinstance(rule, MSAT):
        constants = [rule.alpha, rule.k_a, rule.k_i, rule.C, rule.tau_mp, rule.tau_rd, rule.guard]
        return RULES[MSAT], constants, rule.normalised
    assert isinstance(rule, DTIF)
    return RULES[type(rule.inverse)], [rule.inverse.beta, rule.rho], False


def _alphabet(alphabet: Alphabet) -> tuple[int, list[float], list[float], bool, bool]:
    """Binary, uniform or a table; its levels and heights; whether it has signs, and a floor."""
    if alphabet.counts:
        alphabet = burst(int(alphabet.ceiling))
    kind = 2 if not alphabet.uniform else 1 if alphabet.signed or len(alphabet.levels) > 1 else 0
    return kind, list(alphabet.levels), list(alphabet.heights), alphabet.signed, alphabet.floor


def convolves(x: Tensor, weight: Tensor, dilation: tuple[int, ...], groups: int) -> bool:
    """Whether `convolve` takes such a convolution: 1-D or 2-D, one group, rows undilated, float32, no gradient."""
    plain = weight.ndim in (3, 4) and groups == 1 and dilation[-1] == 1 and x.dtype == weight.dtype == torch.float32
    still = not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
    return not MISSING and plain and still and x.device.type == "cpu"


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Tensor:
    """`conv2d` of events: only what is not 0 in `x` `[N, C, H, W]` costs time. Channels last.

    The order of the sum is that of the input, whatever else is in the batch; it is not that of `F.conv2d`.
    """
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(x.shape[2:], padding, dilation, weight.shape[2:], stride, strict=True)
    ]
    y = torch.empty((len(x), *size, len(weight)))
    torch.ops.rheobase.event_conv(
        x.detach().permute(0, 2, 3, 1).contiguous(),
        weight.detach().contiguous(),
        None if bias is None else bias.detach().contiguous(),
        list(stride),
        list(padding),
        dilation[0],
        y,
    )
    return y.permute(0, 3, 1, 2)
