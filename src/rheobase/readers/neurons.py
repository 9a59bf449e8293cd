"""Neurons: the modules of `rheobase.layers`."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..layers import Population
from .call import Call, Lowered, reads


@reads(Population)
def population(call: Call) -> Lowered:
    layer: Any = call.module
    call.batched()
    return ops.Spike(neuron=layer.neuron), layer.held(), call.inputs
