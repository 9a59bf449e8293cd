"""The C++ kernels: T steps of a neuron in one pass, and convolution of events. Built at install if there is a compiler.

Both run on PyTorch's own threads, in float32, with the widest instructions the machine has (AVX-512, AVX2 or plain).
The neuron takes every step in the order and rounding of the reference: the same bits, except that exp and ln of MSAT
and of the exponential DTIF are its own, good to two units in the last place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..gate import Open, SentCharge, SpikeConfidence, Wait
from ..leak import LearnedDecay
from ..link import Rate
from ..membrane import Membrane, Tensors, differentiated
from ..neuron import Emission, Neuron, begin, drives
from ..reset import Subtract, ToValue
from ..threshold import DTIF, MSAT, Fixed
from .law import CHARGES, SURROGATES, law, rule, slope
from .named import asked
from .operators import MISSING, Differentiable, dense, laid
from .operators import SETS as SETS
from .operators import instruction_set as instruction_set


def declines(
    neuron: Neuron, tensors: Tensors | None = None, xs: Tensor | None = None, m: Membrane | None = None
) -> str:
    """Why the C++ kernel does not run a neuron on such drives, or an empty string if it does."""
    if MISSING:
        return MISSING
    if not isinstance(neuron.threshold, (Fixed, MSAT, DTIF)):
        return f"it knows no {type(neuron.threshold).__name__} threshold"
    if not isinstance(neuron.reset, (Subtract, ToValue)) or not isinstance(
        neuron.gate, (Open, SentCharge, SpikeConfidence, Wait)
    ):
        return "it knows no such reset or gate"
    if type(neuron.leak) not in CHARGES:
        return f"it knows no {type(neuron.leak).__name__} leak"
    if neuron.alphabet.greedy and not neuron.alphabet.counts:
        return "it knows no cascade whose letters are no count"
    if isinstance(neuron.gate, SentCharge) and neuron.gate.letters:
        return "it takes back whole letters only"
    if not isinstance(neuron.link, Rate):
        return "it knows rates only"
    if xs is None or tensors is None:
        return ""
    if xs.device.type != "cpu" or xs.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"it runs float32 on the CPU, not {xs.dtype} on {xs.device.type}"
    if m is not None and m.v.dtype != torch.float32:
        return f"it keeps potentials in float32, not {m.v.dtype}"
    if not _dense(xs[0]):
        return "the drives are not dense in memory"
    if tensors.theta0.ndim >= xs.ndim - 1 and tensors.theta0.shape[0] != 1:
        return "its thresholds differ from sample to sample"
    if tensors.leak is not None and tensors.leak.numel() != 1:
        return "it knows one learned leak a layer"
    return backward_declines(neuron) if differentiated(xs, tensors, m) else ""


def backward_declines(neuron: Neuron) -> str:
    """Why the C++ kernel has no gradient of a neuron that it runs, or an empty string if it has one."""
    if neuron.surrogate is None:
        return "it has no gradient without a surrogate"
    if type(neuron.surrogate) not in SURROGATES:
        return f"it has no gradient by {type(neuron.surrogate).__name__}"
    if not isinstance(neuron.threshold, Fixed):
        return f"it has no gradient of {type(neuron.threshold).__name__}"
    if not isinstance(neuron.gate, (Open, Wait)):
        return f"it has no gradient through {type(neuron.gate).__name__}"
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
    """`emissions` of the law in one pass over `xs` `[T, N, ...]`, with a gradient where one is wanted."""
    differentiable = differentiated(xs, tensors, m)
    m = begin(neuron, tensors, xs, m)
    xs = drives(neuron, tensors, xs, m.t).float()
    return (_differentiable if differentiable else _fused)(neuron, tensors, xs, m)


def _differentiable(neuron: Neuron, tensors: Tensors, xs: Tensor, m: Membrane) -> tuple[Emission, Membrane]:
    """A run that keeps its drives and the potentials at birth for its gradient, and nothing else."""
    worth = _rest(neuron, tensors.theta0.float())
    letters, v = Differentiable.apply(
        xs, laid(m.v, xs[0]), _per_sample(worth, xs[0]), _share(neuron, tensors), *law(neuron), *slope(neuron)
    )
    return Emission(letters, worth), m._replace(v=v, t=m.t + len(xs))


def _fused(neuron: Neuron, tensors: Tensors, xs: Tensor, m: Membrane) -> tuple[Emission, Membrane]:
    """A run without a gradient, of every rule and gate."""
    steps, shape, layout, theta0 = len(xs), xs.shape[1:], dense(xs), tensors.theta0.float()
    letters = torch.empty_strided(xs.shape, layout)
    amplitude = torch.empty_strided(xs.shape, layout) if neuron.threshold.graded else None
    v = torch.empty_strided(shape, layout[1:]).copy_(m.v)
    total, sent = (
        tuple(torch.empty_strided(shape, layout[1:]).copy_(part) for part in parts) for parts in (m.threshold, m.gate)
    )
    torch.ops.rheobase.neuron(
        xs,
        v,
        total[0] if total else None,
        sent[0] if sent else None,
        letters,
        amplitude,
        _per_sample(theta0, xs[0]),
        _share(neuron, tensors),
        int(m.t),
        *rule(neuron),
        *law(neuron),
    )
    if isinstance(neuron.gate, SpikeConfidence):
        for step in range(min(steps, max(0, neuron.gate.steps - int(m.t)))):
            letters[step] = neuron.gate(letters[step], tensors, Membrane(v, m.t + step))
    worth = neuron.threshold.amplitude(theta0, _rest(neuron, theta0)) if amplitude is None else amplitude
    return Emission(letters, worth), Membrane(v, m.t + steps, total, sent)


def _rest(neuron: Neuron, theta0: Tensor) -> Tensor:
    return neuron.threshold.gain * theta0 if isinstance(neuron.threshold, Fixed) else theta0


def _per_sample(theta: Tensor, x: Tensor) -> Tensor:
    """One threshold, or one for each neuron in the order in which a sample of `x` lies in memory."""
    return theta.reshape(1) if theta.numel() == 1 else laid(theta.expand(1, *x.shape[1:]), x[:1])


def _share(neuron: Neuron, tensors: Tensors) -> Tensor | None:
    """Which share of the way to its drive a potential goes, where that is learned."""
    if not isinstance(neuron.leak, LearnedDecay):
        return None
    assert tensors.leak is not None, "a learned leak needs Tensors.leak"
    return torch.sigmoid(tensors.leak.float())


def convolves(x: Tensor, weight: Tensor, dilation: tuple[int, ...], groups: int) -> bool:
    """Whether `convolve` takes such a convolution: 1-D or 2-D, one group, rows undilated, float32, no gradient."""
    plain = weight.ndim in (3, 4) and groups == 1 and dilation[-1] == 1 and x.dtype == weight.dtype == torch.float32
    still = not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
    return not MISSING and asked() in ("", "cpu") and plain and still and x.device.type == "cpu"


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
