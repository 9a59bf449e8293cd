"""A spiking network: `(xs, state) -> (ys, state')`, time first, the state carried by the caller."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn

from . import ops
from .errors import FileError, InputError
from .files import write
from .graph import INPUT, Graph, Node
from .membrane import Tensors
from .neuron import Emission, Neuron
from .spec import from_json, to_json


class State(NamedTuple):
    """What a network remembers: steps done, the memory of each stateful node, the sum of its outputs so far."""

    t: int
    memory: dict[str, Any]
    total: Tensor


class Visit(NamedTuple):
    """What a visitor sees of one node over T steps from `start`: inputs, output `[T, N, ...]`, emission of neurons."""

    start: int
    node: Node
    xs: list[Tensor]
    ys: Tensor
    emission: Emission | None
    memory: Any


def constant(x: Tensor, steps: int) -> Tensor:
    """Constant coding: `x` `[N, ...]` at every step, `[steps, N, ...]`, without a copy."""
    if not isinstance(steps, int) or steps < 1:
        raise InputError(
            f"steps={steps!r} is no number of time steps",
            why="a spiking network needs at least one step to answer",
            instead="steps=8",
        )
    return x.unsqueeze(0).expand(steps, *x.shape)


class SpikingNet(nn.Module):
    """A graph of operations and neurons, run over time.

        ys, state = net(xs)             xs [T, N, ...] -> ys [T, N, classes], fresh memory
        ys, state = net(xs, state)      goes on where `state` stopped: the same as one longer run

    `ys[t]` is the readout after step t, the mean of the outputs of steps 0..t, so that one run answers for every T.
    What is constant in time is computed once. Weights and neuron tensors are in `state_dict` under the names of the
    source network. There is no hidden state: two calls give the same answer. `provenance` says how it was made.
    """

    def __init__(self, graph: Graph, provenance: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.provenance = provenance or {}
        self.graph_nodes, self.output, self.input_shape = graph.nodes, graph.output, graph.input_shape
        self._spent, self._sparse = graph.spent(), _sparse(graph.nodes)
        self._largest = max(math.prod(node.shape) for node in graph.nodes)
        self.nodes = nn.Module()
        for name, tensors in graph.tensors.items():
            holder = _holder(self.nodes, name)
            for key, value in tensors.items():
                if key in ("weight", "bias", "scale"):
                    holder.register_parameter(key, nn.Parameter(value.clone()))
                else:
                    holder.register_buffer(key, value.clone())

    def forward(self, xs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        return self.run(xs, state)

    def run(
        self, xs: Tensor, state: State | None = None, visit: Callable[[Visit], None] | None = None
    ) -> tuple[Tensor, State]:
        """The same as a call; `visit` sees every node with its inputs and output."""
        self.check(xs, state)
        memory: dict[str, Any] = {}
        values = {INPUT: xs}
        for node, done in zip(self.graph_nodes, self._spent, strict=True):
            inputs, weights, emission = [values[name] for name in node.inputs], self.weights(node.name), None
            before = state.memory[node.name] if state and node.name in state.memory else None
            if isinstance(node.op, ops.Spike):
                emission, memory[node.name] = node.op.scan(weights, inputs[0], before)
                letters, amplitude = emission
                ys = (letters if node.op.letters else letters * amplitude).to(xs.dtype)
            elif isinstance(node.op, ops.MaxPool):
                ys, memory[node.name] = node.op.scan(weights, inputs[0], before)
            else:
                ys = over_time(node.op.on_events if node.name in self._sparse else node.op, weights, inputs)
            values[node.name] = ys
            if visit:
                visit(Visit(state.t if state else 0, node, inputs, ys, emission, memory.get(node.name)))
            for name in done:
                del values[name]
        return self.readout(values[self.output], state, memory)

    def present(
        self, x: Tensor, steps: int, visit: Callable[[Visit], None] | None = None, chunk: int | None = None
    ) -> Iterator[Tensor]:
        """Constant coding of `x` `[N, ...]`, `chunk` steps at a time to bound memory: the `ys` of each piece.

        By itself a piece is as long as the largest layer stays near 2 million numbers, which also is fastest on a CPU.
        """
        if chunk is None:
            chunk = max(1, 2_000_000 // (self._largest * len(x)))
        xs, state = constant(x, steps), None
        for start in range(0, steps, chunk):
            ys, state = self.run(xs[start : start + chunk], state, visit)
            yield ys

    @property
    def together(self) -> int:
        """How many samples at once are fastest: on a CPU few enough for the caches, about 4 steps in a piece."""
        return max(1, (500_000 if next(self.parameters()).device.type == "cpu" else 50_000_000) // self._largest)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of one answer, without time and batch."""
        return next(node.shape for node in self.graph_nodes if node.name == self.output)

    def readout(self, ys: Tensor, state: State | None, memory: dict[str, Any]) -> tuple[Tensor, State]:
        """The mean of the outputs up to each step."""
        total, t = (state.total, state.t) if state else (torch.zeros_like(ys[0]), 0)
        means = []
        for y in ys.unbind(0):
            total, t = total + y, t + 1
            means.append(total / t)
        return torch.stack(means), State(t, memory, total)

    def weights(self, name: str) -> Mapping[str, Tensor]:
        """The tensors of a node by their names, empty if it has none."""
        module: nn.Module | None = self.nodes
        for part in name.split("."):
            module = module._modules.get(part) if module is not None else None
        if module is None:
            return {}
        return {k: v for k, v in (*module._parameters.items(), *module._buffers.items()) if v is not None}

    def tensors(self, name: str) -> Tensors:
        """The tensors of the neurons of a spiking layer."""
        weights = self.weights(name)
        return Tensors(**{key: weights[key] for key in Tensors._fields if key in weights})

    def sites(self) -> Iterator[tuple[str, Neuron]]:
        """The spiking layers in order: name and neuron."""
        return ((node.name, node.op.neuron) for node in self.graph_nodes if isinstance(node.op, ops.Spike))

    @property
    def graph(self) -> Graph:
        """The network as data, with its present tensors."""
        tensors = {node.name: dict(self.weights(node.name)) for node in self.graph_nodes}
        return Graph(
            nodes=self.graph_nodes,
            output=self.output,
            input_shape=self.input_shape,
            tensors={name: weights for name, weights in tensors.items() if weights},
        )

    def check(self, xs: Tensor, state: State | None) -> None:
        """Refuse what is no input of this network before anything runs."""
        expected = f"[T, N, {', '.join(map(str, self.input_shape))}]"
        if xs.ndim == len(self.input_shape) + 1 and tuple(xs.shape[1:]) == self.input_shape:
            raise InputError(
                f"the input {tuple(xs.shape)} has no time axis, expected {expected}",
                why="time is the first axis everywhere, and is never guessed",
                instead="net(rheobase.constant(x, steps=8))",
            )
        if tuple(xs.shape[2:]) != self.input_shape or xs.ndim < 2 or 0 in xs.shape[:2]:
            raise InputError(
                f"the input is {tuple(xs.shape)}, expected {expected}",
                why="the network was converted for samples of that shape",
                instead="rheobase.constant(x, steps=8) for static x [N, ...]",
            )
        dtype = next((p.dtype for p in self.parameters()), xs.dtype)
        if xs.dtype != dtype:
            raise InputError(
                f"the input is {xs.dtype}, the network is {dtype}", why="mixed dtypes round", instead=f"xs.to({dtype})"
            )
        if state is not None and state.total.shape[0] != xs.shape[1]:
            raise InputError(
                f"the state is of {state.total.shape[0]} samples, the input of {xs.shape[1]}",
                why="a state belongs to the samples it was made with",
                instead="net(xs) starts new samples",
            )


def _holder(root: nn.Module, name: str) -> nn.Module:
    """The submodule of a dotted name, made where it is missing."""
    for part in name.split("."):
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    return root


def _sparse(nodes: tuple[Node, ...]) -> set[str]:
    """The convolutions whose input is spikes, as they left the neurons, side by side or the larger of several."""
    carriers = (ops.Reshape, ops.Permute, ops.Slice, ops.Pad, ops.Concat, ops.Scale, ops.Add, ops.MaxPool)
    events: set[str] = set()
    for node in nodes:
        if isinstance(node.op, ops.Spike) or (isinstance(node.op, carriers) and events.issuperset(node.inputs)):
            events.add(node.name)
    return {node.name for node in nodes if isinstance(node.op, ops.Conv) and events.issuperset(node.inputs)}


def over_time(op: Callable[..., Tensor], weights: Mapping[str, Tensor], inputs: list[Tensor]) -> Tensor:
    """A memoryless op on `[T, N, ...]`: on all steps at once, or once if nothing changes in time."""
    steps, batch = inputs[0].shape[:2]
    if all(x.stride(0) == 0 for x in inputs):
        y = op(weights, *(x[0] for x in inputs))
        return y.unsqueeze(0).expand(steps, *y.shape)
    y = op(weights, *(x.flatten(0, 1) for x in inputs))
    return y.reshape(steps, batch, *y.shape[1:])


FORMAT = 1


def save(path: str | Path, net: SpikingNet) -> None:
    """Write a network to one safetensors file: tensors, and its graph as JSON in the header.

    The file is complete or not there: it is written under a temporary name and renamed.
    """
    graph = {
        "format": FORMAT,
        "nodes": to_json(net.graph_nodes),
        "output": net.output,
        "input_shape": list(net.input_shape),
        "provenance": net.provenance,
    }
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in net.state_dict().items()}
    write(path, serialise(tensors, metadata={"rheobase": json.dumps(graph)}))


def load(path: str | Path) -> SpikingNet:
    """Read a network that `save` wrote. Nothing in the file is ever run: it holds tensors and JSON.

    Raises FileError if the file is missing, damaged, no network of this library or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError(f"there is no file {str(path)!r}", instead="check the path")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise FileError(
            f"{str(path)!r} is not a safetensors file: {error}",
            why="it is damaged, truncated, or a pickle, which can run code and is never loaded",
            instead="rheobase.save(path, net) writes files that load",
        ) from error
    if "rheobase" not in metadata:
        raise FileError(
            f"{str(path)!r} holds tensors but no spiking network",
            instead="rheobase.convert(...), then rheobase.save(...)",
        )
    data = _parsed(metadata["rheobase"], path)
    nodes: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        owner, key = name.removeprefix("nodes.").rsplit(".", 1)
        nodes.setdefault(owner, {})[key] = tensor
    graph = Graph(nodes=data["nodes"], output=data["output"], input_shape=tuple(data["input_shape"]), tensors=nodes)
    known = {INPUT}
    for node in graph.nodes:
        if not known.issuperset(node.inputs):
            raise FileError(f"{str(path)!r} is damaged: node {node.name!r} reads what no node before it makes")
        known.add(node.name)
    if graph.output not in known:
        raise FileError(f"{str(path)!r} is damaged: its output {graph.output!r} is no node")
    return SpikingNet(graph, data["provenance"]).eval()


def _parsed(text: str, path: Path) -> dict[str, Any]:
    """The header of a saved network, its nodes as specs."""
    try:
        data = json.loads(text)
        if data["format"] == FORMAT:
            parts = {name: data[name] for name in ("output", "input_shape", "provenance")}
            return parts | {"nodes": tuple(from_json(node) for node in data["nodes"])}
    except (ValueError, KeyError, TypeError) as error:
        raise FileError(
            f"{str(path)!r} has a damaged header: {error!r}", instead="rheobase.save(path, net) writes files that load"
        ) from error
    raise FileError(f"{str(path)!r} has format {data['format']}, this version reads {FORMAT}")
