"""The neurons of other libraries, set to the law that all are compared with. Each function needs its package."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from libraries import Law, Library
from torch import Tensor, nn


def spikingjelly() -> list[Library]:
    """Both modes. `decay_input=False` adds the drive as it is."""
    from spikingjelly.activation_based import functional, neuron, surrogate  # pyright: ignore[reportMissingImports]

    def made(mode: str) -> Callable[[Law], nn.Module]:
        def node(law: Law) -> nn.Module:
            options = {"v_threshold": law.threshold, "v_reset": None, "step_mode": mode}
            options["surrogate_function"] = surrogate.ATan(2.0)
            if law.leak == 1:
                return neuron.IFNode(**options)
            return neuron.LIFNode(tau=1 / (1 - law.leak), decay_input=False, **options)

        return node

    return [
        Library("spikingjelly, single-step", made("s"), functional.reset_net),
        Library("spikingjelly, multi-step", made("m"), functional.reset_net, "time first"),
    ]


def snntorch() -> list[Library]:
    """Its reset comes a step late by default: the same spikes without a leak, but it is detached backward.

    In the same step it is the law only as far as potentials stay below two thresholds: what is left is looked at again.
    """
    import snntorch  # pyright: ignore[reportMissingImports]
    from snntorch import surrogate  # pyright: ignore[reportMissingImports]

    def made(delay: bool) -> Callable[[Law], nn.Module]:
        return lambda law: snntorch.Leaky(
            beta=law.leak, threshold=law.threshold, spike_grad=surrogate.atan(2.0), reset_delay=delay, init_hidden=True
        )

    def forget(net: nn.Module) -> None:  # its own reset looks at the children of a network only
        for module in net.modules():
            if isinstance(module, snntorch.Leaky):
                module.reset_mem()  # pyright: ignore

    def late(law: Law) -> str:
        return "with a leak its reset, a step late, makes another neuron" if law.leak < 1 else ""

    def same(law: Law) -> str:
        return "" if law.leak < 1 else "the default is this neuron too"

    return [
        Library("snntorch", made(True), forget, same_gradient=False, declines=late),
        Library("snntorch, reset in the same step", made(False), forget, declines=same),
    ]


def norse() -> list[Library]:
    """`LIFBoxCell` goes a part of the way to its drive: v here is (1 - leak) u, and so is the threshold.

    Its surrogates are others.
    """
    from norse.torch import LIFBoxCell, LIFBoxParameters  # pyright: ignore[reportMissingImports]
    from norse.torch.functional.reset import reset_subtract  # pyright: ignore[reportMissingImports]

    class Cell(nn.Module):
        def __init__(self, law: Law) -> None:
            super().__init__()
            part = 1 - law.leak
            at, tau = torch.tensor(law.threshold * part), torch.tensor(part)
            given = LIFBoxParameters(tau_mem_inv=tau, v_th=at, reset_method=reset_subtract)
            self.cell, self.state = LIFBoxCell(given, dt=1.0), None

        def forward(self, x: Tensor) -> Tensor:
            spikes, self.state = self.cell(x, self.state)
            return spikes

    def forget(net: nn.Module) -> None:
        for module in net.modules():
            if isinstance(module, Cell):
                module.state = None

    def declines(law: Law) -> str:
        return "" if law.leak < 1 else "it has no integrate-and-fire neuron with a soft reset"

    return [Library("norse", Cell, forget, same_gradient=False, declines=declines)]


def sinabs() -> list[Library]:
    """`[N, T, ...]`; a single spike a step, no bound below, the drive as it is."""
    import sinabs.activation  # pyright: ignore[reportMissingImports]
    import sinabs.layers  # pyright: ignore[reportMissingImports]

    def node(law: Law) -> nn.Module:
        options: dict[str, Any] = {
            "spike_threshold": torch.tensor(law.threshold),
            "spike_fn": sinabs.activation.SingleSpike,
            "surrogate_grad_fn": lambda v, at: 1 / (1 + (math.pi * (v / at - 1)).square()) / at,
            "min_v_mem": None,
        }
        if law.leak == 1:
            return sinabs.layers.IAF(**options)
        found = sinabs.layers.LIF(tau_mem=-1 / math.log(law.leak), norm_input=False, train_alphas=True, **options)
        found.alpha_mem.requires_grad_(False).fill_(law.leak)
        return found

    def forget(net: nn.Module) -> None:
        for module in net.modules():
            if hasattr(module, "reset_states"):
                module.reset_states()  # type: ignore[operator]

    return [Library("sinabs", node, forget, "batch first")]


PEERS: dict[str, Callable[[], list[Library]]] = {
    "spikingjelly": spikingjelly, "snntorch": snntorch, "norse": norse, "sinabs": sinabs,
}  # fmt: skip
