"""A spiking network: `(xs, state) -> (ys, state')`, time first, the state carried by the caller."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from . import ops
from .errors import InputError
from .gate import Wait
from .graph import Graph, Node
from .inputs import count, each, named, tensors
from .link import Rate
from .membrane import Membrane, Tensors
from .neuron import Emission, Neuron, init
from .state import State, Visit, constant, means, taken_apart
from .threshold import Radix

EXPONENTS = {"theta0_exponent": "theta0", "v0_exponent": "v0"}
"""What is learned of a tensor that must keep its sign, and which: 0 leaves it as it is."""
STATEFUL = (ops.Spike, ops.Difference)
"""What has a memory."""
LEARNED = ("weight", "bias", "scale", "leak", *EXPONENTS)
"""The tensors of a node that are parameters; the others are buffers."""


class SpikingNet(nn.Module):
    """A graph of operations and neurons, run over time.

        ys, state = net(xs)             xs [T, N, ...] -> ys [T, N, classes], fresh memory
        ys, state = net(xs, state)      goes on where `state` stopped: the same as one longer run

    `ys[t]` is the readout after step t, the mean of the outputs of steps 0..t, so that one run answers for every T.
    A network with several inputs takes a tuple or a dict of such xs, one with several answers gives them as its source
    does. What is constant in time is computed once. Weights and neuron tensors are in `state_dict` under the names of
    the source network. There is no hidden state: two calls give the same answer. `provenance` says how it was made.

    In training batch norm and dropout act, over all steps of a batch at once. recompute: a neuron keeps only its drives
    for the backward pass and runs again there; False keeps all that lies between where no kernel has the gradient,
    which is faster and larger.
    """

    piece = 2_000_000
    """Numbers of the largest layer in a piece of a run: fastest on a CPU."""

    def __init__(self, graph: Graph, provenance: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.provenance, self.recompute = provenance or {}, True
        self.graph_nodes = graph.nodes
        self.output, self.inputs = graph.output, graph.inputs
        self._spent, self._sparse = graph.spent(), _sparse(self.graph_nodes)
        self._largest = max(math.prod(node.shape) for node in graph.nodes)
        self.nodes = nn.Module()
        own: dict[int, Tensor] = {}  # one tensor at several call sites stays one
        for name, weights in graph.tensors.items():
            holder = _holder(self.nodes, name)
            for key, value in weights.items():
                tensor = own.setdefault(id(value), value.detach().clone())
                if key in LEARNED:
                    if not isinstance(tensor, nn.Parameter):
                        tensor = own[id(value)] = nn.Parameter(tensor)
                    holder.register_parameter(key, tensor)
                else:
                    holder.register_buffer(key, tensor)

    def forward(self, xs: Any, state: State | None = None) -> tuple[Any, State]:
        return self.run(xs, state)

    def run(
        self, xs: Any, state: State | None = None, visit: Callable[[Visit], None] | None = None
    ) -> tuple[Any, State]:
        """The same as a call; `visit` sees every node with its inputs and output."""
        return self.going_on(xs, [state], visit)

    def going_on(self, xs: Any, held: list[State | None], visit: Callable[[Visit], None] | None) -> tuple[Any, State]:
        """A run from the state in `held`, which is taken out: if nothing else has it, its memory goes as it is used."""
        values, state = self.begun(xs, held.pop())
        state, old = taken_apart(state)
        memory: dict[str, Any] = {}
        for node, done in zip(self.graph_nodes, self._spent, strict=True):
            inputs = [values[name] for name in node.inputs]
            ys, after, emission = self.node(node, inputs, old.pop(node.name, None))
            if isinstance(node.op, STATEFUL):
                memory[node.name] = after
            values[node.name] = ys
            if visit:
                visit(Visit(state.t if state else 0, node, inputs, ys, emission, after))
            for name in done:
                del values[name]
        return self.readout(each(values.__getitem__, self.output), state, memory)

    def begun(self, xs: Any, state: State | None) -> tuple[dict[str, Tensor], State | None]:
        """The inputs of a run by their names, and the state that it goes on from, both checked."""
        values = named(xs, list(self.inputs))
        for name, drive in values.items():
            self.check(name, drive, state)
        if state is not None:
            self.own(state)
        if state is None and self.rehearsal:
            state = self.rehearsed(xs)
        return values, state

    def node(self, node: Node, inputs: list[Tensor], before: Any) -> tuple[Tensor, Any, Emission | None]:
        """One node over all steps of its inputs: output `[T, N, ...]`, memory after them, emission of neurons."""
        weights = self.weights(node.name)
        if isinstance(node.op, ops.Spike):
            emission, after = node.op.scan(weights, inputs[0], before, self.recompute)
            return node.op.emitted(emission, inputs[0].dtype, before), after, emission
        if isinstance(node.op, ops.Difference):
            return *node.op.scan(weights, inputs, before), None
        if isinstance(node.op, ops.Pulse):
            return node.op.over(inputs[0]), None, None
        if self.training and isinstance(node.op, ops.TRAINED):
            return node.op.trained(weights, inputs[0]), None, None
        if isinstance(node.op, ops.Conv) and (node.name in self._sparse or node.op.learns(weights, inputs[0])):
            return over_time(node.op.on_events, weights, inputs), None, None
        return over_time(node.op, weights, inputs), None, None

    def rehearsed(self, xs: Any, visit: Callable[[Visit], None] | None = None) -> State:
        """The state at birth for the inputs `xs` `[T, N, ...]`: what neurons that rehearse learn of their first step,
        held for `rehearsal` steps. No step of the run is done; `visit` sees the rehearsal.
        """
        seen: dict[str, Visit] = {}

        def keep(shown: Visit) -> None:
            if shown.emission is not None and shown.node.op.neuron.rehearsal.steps:
                seen[shown.node.name] = shown
            if visit:
                visit(shown)

        held = each(lambda part: constant(part[0], self.rehearsal), xs)
        self.run(held, State(0, {}, None), keep)
        return State(0, {name: self._born(shown) for name, shown in seen.items()}, None)

    def _born(self, shown: Visit) -> Membrane:
        """The memory of a spiking layer at birth, after its rehearsal."""
        assert shown.emission is not None
        neuron, tensors = shown.node.op.neuron, self.tensors(shown.node.name)
        m = init(neuron, tensors, shown.xs[0][0])
        xs = tensors.corrected(shown.xs[0], m.t)[: neuron.rehearsal.steps].to(m.v.dtype)
        ys = (shown.emission.letters * shown.emission.amplitude)[: neuron.rehearsal.steps]
        return m._replace(v=neuron.rehearsal.start(m.v, neuron.threshold.rest(tensors.theta0), xs, ys))

    @cached_property
    def rehearsal(self) -> int:
        """How many steps the network rehearses on each input before it runs; 0 for most."""
        return max((neuron.rehearsal.steps for _, neuron in self.sites()), default=0)

    @property
    def clock(self) -> int:
        """How many steps every run has, because neurons count in as many digits; 0 where any number will do."""
        rules = (neuron.threshold for _, neuron in self.sites())
        return max((rule.steps for rule in rules if isinstance(rule, Radix)), default=0)

    @cached_property
    def waiting(self) -> int:
        """How many neurons in a row wait for all of their input: each delays the answer by all steps of the run."""
        rows: dict[str, int] = {}
        for node in self.graph_nodes:
            waits = isinstance(node.op, ops.Spike) and isinstance(node.op.neuron.gate, Wait)
            rows[node.name] = max((rows.get(name, 0) for name in node.inputs), default=0) + waits
        return max(rows.values(), default=0)

    def present(
        self,
        x: Any,
        steps: int,
        visit: Callable[[Visit], None] | None = None,
        chunk: int | None = None,
        rehearsing: Callable[[Visit], None] | None = None,
    ) -> Iterator[Any]:
        """Constant coding of `x` `[N, ...]`, `chunk` steps at a time to bound memory: the `ys` of each piece.

        By itself a piece has up to `longest` steps, and all are about as long.
        """
        if self.waiting:
            chunk = steps
        elif chunk is None:
            chunk = math.ceil(steps / max(1, math.ceil(steps / self.longest(max(1, count(x))))))
        chunk = max(1, chunk // self.block) * self.block
        xs = each(lambda part: constant(part, steps), x)
        held = [self.rehearsed(xs, rehearsing) if self.rehearsal else None]
        for start in range(0, steps, chunk):
            stop = start + chunk
            ys, after = self.going_on(each(lambda part, a=start, b=stop: part[a:b], xs), held, visit)
            held.append(after)
            del after
            yield ys

    def longest(self, samples: int) -> int:
        """How many steps a piece of a run of so many samples has at most: the largest layer stays near `piece` numbers,
        but a layer sees no fewer than 8 samples at once, of all its steps.
        """
        return max(1, 8 // samples, self.piece // (self._largest * samples))

    @property
    def together(self) -> int:
        """How many samples at once are fastest: on a CPU few enough for the caches, about 4 steps in a piece."""
        return max(1, (500_000 if next(self.parameters()).device.type == "cpu" else 50_000_000) // self._largest)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample, of the first input if there are several."""
        return next(iter(self.inputs.values()))

    @property
    def output_shape(self) -> Any:
        """The shape of one answer, without time and batch; of each if there are several."""
        shapes = {node.name: node.shape for node in self.graph_nodes}
        return each(shapes.__getitem__, self.output)

    def readout(self, ys: Any, state: State | None, memory: dict[str, Any]) -> tuple[Any, State]:
        """The mean of the outputs up to each step."""
        t, totals = 0, [None for _ in tensors(ys)]
        if state is not None and state.total is not None:
            t, totals = state.t, list(tensors(state.total))
        found = [means(part, before, t) for part, before in zip(tensors(ys), totals, strict=True)]
        answers, sums = (
            {name: pair[k] for name, pair in zip(tensors(self.output), found, strict=True)} for k in (0, 1)
        )
        steps = len(next(tensors(ys)))
        return each(answers.__getitem__, self.output), State(t + steps, memory, each(sums.__getitem__, self.output))

    def weights(self, name: str) -> Mapping[str, Tensor]:
        """The tensors of a node by their names, empty if it has none."""
        module: nn.Module | None = self.nodes
        for part in name.split("."):
            module = module._modules.get(part) if module is not None else None
        if module is None:
            return {}
        held = {k: v for k, v in (*module._parameters.items(), *module._buffers.items()) if v is not None}
        return grown(held) if any(key in held for key in EXPONENTS) else held

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
            inputs=self.inputs,
            tensors={name: weights for name, weights in tensors.items() if weights},
        )

    @property
    def block(self) -> int:
        """How many sub-steps make one step; more than 1 in a lowered network, which runs in whole blocks."""
        return max((node.op.block for node in self.graph_nodes if isinstance(node.op, ops.Spike)), default=1)

    def check(self, name: str, xs: Tensor, state: State | None) -> None:
        """Refuse what is no input of this network before anything runs."""
        shape, numbers = self.inputs[name], self.embeds(name)
        expected = f"[T, N, {', '.join(map(str, shape))}]"
        if xs.ndim == len(shape) + 1 and tuple(xs.shape[1:]) == shape:
            raise InputError(
                f"the {name} {tuple(xs.shape)} has no time axis, expected {expected}",
                why="time is the first axis everywhere, and is never guessed",
                instead="net(rheobase.constant(x, steps=8))",
            )
        if tuple(xs.shape[2:]) != shape or xs.ndim < 2 or 0 in xs.shape[:2]:
            raise InputError(
                f"the {name} is {tuple(xs.shape)}, expected {expected}",
                why="the network was converted for samples of that shape",
                instead="rheobase.constant(x, steps=8) for static x [N, ...]",
            )
        if len(xs) % self.block:
            raise InputError(
                f"the {name} has {len(xs)} sub-steps, and a step of this network is {self.block} of them",
                why="a lowered network runs in whole steps",
                instead=f"rheobase.constant(x, steps={-(-len(xs) // self.block) * self.block})",
            )
        dtype = next((p.dtype for p in self.parameters()), xs.dtype)
        if numbers and xs.is_floating_point():
            raise InputError(f"the {name} is {xs.dtype}", why="an embedding reads whole numbers", instead="xs.long()")
        if xs.dtype != dtype and not numbers:
            raise InputError(
                f"the {name} is {xs.dtype}, the network is {dtype}", why="mixed dtypes round", instead=f"xs.to({dtype})"
            )
        if state is not None and state.total is not None and count(state.total) != xs.shape[1]:
            raise InputError(
                f"the state is of {count(state.total)} samples, the {name} of {xs.shape[1]}",
                why="a state belongs to the samples it was made with",
                instead="net(xs) starts new samples",
            )

    def own(self, state: State) -> None:
        """Refuse the state of another network."""
        shapes = {node.name: node.shape for node in self.graph_nodes if isinstance(node.op, STATEFUL)}
        found = {name: m.v.shape[1:] if isinstance(m, Membrane) else None for name, m in state.memory.items()}
        wrong = [n for n, shape in found.items() if n not in shapes or (shape is not None and shape != shapes[n])]
        wrong += [name for name, _ in self.sites() if state.t and name not in found]
        if wrong:
            raise InputError(
                f"the state does not fit at {wrong[0]!r}",
                why="it is the state of another network",
                instead="net(xs) starts new samples",
            )

    def embeds(self, name: str) -> bool:
        """Whether an input is of whole numbers, that an embedding looks up."""
        return any(isinstance(node.op, ops.Embedding) and name in node.inputs for node in self.graph_nodes)


def grown(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a node whose learned exponents are applied: `theta0 exp(theta0_exponent)`, positive for any."""
    kept = {k: v for k, v in held.items() if k not in EXPONENTS}
    return kept | {of: held[of] * held[key].exp() for key, of in EXPONENTS.items() if key in held}


def _holder(root: nn.Module, name: str) -> nn.Module:
    """The submodule of a dotted name, made where it is missing."""
    for part in name.split("."):
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    return root


def _sparse(nodes: tuple[Node, ...]) -> set[str]:
    """The convolutions whose input is spikes, as they left the neurons, side by side or the larger of several."""
    carriers = (ops.Reshape, ops.Permute, ops.Slice, ops.Pad, ops.Concat, ops.Scale, ops.Add, ops.Roll, ops.Flip)
    events: set[str] = set()
    for node in nodes:
        passes = isinstance(node.op, carriers) or (isinstance(node.op, ops.Difference) and node.op.exact)
        spikes = isinstance(node.op, ops.Spike) and isinstance(node.op.neuron.link, Rate)
        if spikes or (passes and events.issuperset(node.inputs)):
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
