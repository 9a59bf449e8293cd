"""Neurons: the modules of `rheobase.layers` and `rheobase.relatives`."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..layers import Population
from ..relatives import MLF, TernarySpike
from .call import Call, Lowered, reads


@reads(Population)
def population(call: Call) -> Lowered:
    layer: Any = call.module
    call.batched()
    return ops.Spike(neuron=layer.neuron), layer.held(), call.inputs


@reads(TernarySpike)
def ternary_spike(call: Call) -> Lowered:
    layer: Any = call.module
    call.batched()
    spikes = ops.Spike(neuron=layer.spikes.neuron, letters=True)
    name = call.builder.emit(call.node, spikes, layer.spikes.held(), call.inputs, "spikes", call.shape(call.node))
    return ops.Scale(), {"scale": layer.amplitude}, [name]


@reads(MLF)
def multi_level_firing(call: Call) -> Lowered:
    layer: Any = call.module
    call.batched()
    shape, names = call.shape(call.node), []
    for index, unit in enumerate(layer.units):
        spikes = ops.Spike(neuron=unit.neuron, letters=True)
        names.append(call.builder.emit(call.node, spikes, unit.held(), call.inputs, f"units.{index}", shape))
    return ops.Add(), {}, names
