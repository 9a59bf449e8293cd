"""A network made ready for inference: stages of letters and whole weights, each on its fastest kernel."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from . import ops
from .errors import InputError, KernelError, context
from .exact import exact
from .inputs import each, first, named, tensors
from .kernels.engine import Engine, engine
from .kernels.named import asked
from .kernels.room import Room
from .network import STATEFUL, SpikingNet
from .plan import Plan
from .spec import nearest
from .spelling import spellings
from .spiking import folded
from .stages import Drive, Pool, Run, Stage, Step, Values
from .state import State, Visit, constant, taken_apart

PRECISIONS = ("int8", "bf16", "fp32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """How a compiled network runs one of its steps.

    name: the node. kernel: what runs it, "reference" for the network's own operation. weights: what they are rounded
    to, for each synapse inside. rate: the share of its letters that are not 0 on the example, bits: of one letter, NaN
    and 0 where no letters leave. error: the largest relative rounding error of its weights, ||rounded - w|| / ||w||.
    exact: whether it computes what `net` does of the same values, bit for bit. declined: why others do not run it.
    """

    name: str
    kernel: str
    weights: str
    rate: float
    bits: int
    error: float
    exact: bool
    declined: dict[str, str]


class CompiledNet(nn.Module):
    """A network for inference: `ys, state = fast(xs, state)` as the `SpikingNet` it was made of, on fused kernels.

    net: the network that it computes, with the weights as they were rounded. `fast(xs)` and `fast.net(xs)` give the
    same spikes and answers, bit for bit where `explain` says exact, elsewhere up to rounding; both take the state of
    the other. What is asked of a `SpikingNet` is answered by `net`. It has no gradient, and it computes what `net` was
    when it was made: who changes tensors of `net` compiles again.
    """

    present = SpikingNet.present
    """Constant coding in pieces, by this network's own run."""

    def __init__(self, net: SpikingNet, steps: tuple[Step, ...], rates: Mapping[str, float], engine: Engine) -> None:
        super().__init__()
        self.net, self.steps, self.rates, self.engine = net, steps, rates, engine
        self._spelled, self._shapes = spellings(net), net.graph.shapes
        self._exact = exact(steps, self._spelled)
        self._spent, self._room = _spent(steps, net), Room()
        self._longest = _longest(steps, self._spent)

    def __getattr__(self, name: str) -> Any:
        net = self.__dict__["_modules"]["net"]
        return net if name == "net" else getattr(net, name)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> CompiledNet:
        """What is asked to move may be where it is already."""
        for held in self.net.state_dict().values():
            moved = fn(held[:0] if held.ndim else held)
            if (moved.dtype, moved.device) != (held.dtype, held.device):
                raise KernelError(
                    f"a compiled network cannot become one of {moved.dtype} on {moved.device}",
                    why="its kernels and the order of its weights were chosen for where it is",
                    instead="rb.compile of the network that was moved",
                )
        return self

    def longest(self, samples: int) -> int:
        """How many steps a piece has at most. Each reads all weights and potentials again, so there are few: what the
        nodes send may take half the memory of the potentials, and in up to 8 steps all of it.
        """
        return max(self._longest, self.net.longest(samples))

    def forward(self, xs: Any, state: State | None = None) -> tuple[Any, State]:
        return self.run(xs, state)

    def run(
        self, xs: Any, state: State | None = None, visit: Callable[[Visit], None] | None = None
    ) -> tuple[Any, State]:
        """The same as a call; `visit` sees every node with its inputs and output, drives of a stage as shapes only."""
        return self.going_on(xs, [state], visit)

    @torch.no_grad()
    def going_on(self, xs: Any, held: list[State | None], visit: Callable[[Visit], None] | None) -> tuple[Any, State]:
        """As `SpikingNet.going_on`."""
        if asked() not in ("", self.engine.name):
            raise KernelError(
                f"the kernel {asked()!r} was asked for, and a compiled network has its own",
                instead="fast.net, the network that it computes",
            )
        inputs, state = self.net.begun(xs, held.pop())
        state, memory = taken_apart(state)
        on = self._run(inputs, state.t if state else 0, memory, visit)
        for step, done in zip(self.steps, self._spent, strict=True):
            step.run(on)
            for name in done:
                on.values.drop(name)
        return self.net.readout(each(on.values.real, self.net.output), state, on.memory)

    def _run(
        self,
        inputs: Mapping[str, Tensor],
        t: int = 0,
        before: dict[str, Any] | None = None,
        visit: Callable[[Visit], None] | None = None,
    ) -> Run:
        values = Values(self._shapes, self._spelled)
        for name, xs in inputs.items():
            values.put(name, xs)
        steps, samples = next(iter(inputs.values())).shape[:2]
        return Run(self.net, values, t, steps, samples, before or {}, {}, visit, self._room)

    def tuned(self, example: Any, steps: int) -> CompiledNet:
        """The same with, for every drive, the kernel that is fastest on `example` `[N, ...]`."""
        xs = each(lambda part: constant(part, steps * self.net.block), example)
        on = self._run(named(xs, list(self.net.inputs)))
        found = []
        for step, done in zip(self.steps, self._spent, strict=True):
            found.append(_fastest(step, on) if isinstance(step, Stage) else step)
            found[-1].run(on)
            for name in done:
                on.values.drop(name)
        return CompiledNet(self.net, tuple(found), self.rates, self.engine)

    def explain(self) -> tuple[Layer, ...]:
        """What runs each layer, at which precision, and why other kernels do not."""
        return tuple(self._layer(step) for step in self.steps)

    def _layer(self, step: Step) -> Layer:
        spelled = self._spelled.get(step.node.name)
        kernel, weights, error, declined = type(step).__name__.lower(), [], 0.0, {}
        if isinstance(step, Stage):
            kernel = " + ".join(drive.chosen for drive in step.drives)
            for drive in step.drives:
                declined |= {f"{drive.name}: {name}": why for name, why in drive.declined.items()}
                declined |= _slower(drive)
                error = max(error, drive.error)
                weights += [drive.weights] if drive.weights else []
        elif step.why:
            declined = {"stage": step.why}
        rate = self.rates.get(step.node.name, math.nan)
        return Layer(
            name=step.node.name, kernel=kernel, weights=" + ".join(weights), rate=rate,
            bits=spelled.bits if spelled else 0, error=error, exact=self._exact[step.node.name], declined=declined,
        )  # fmt: skip

    def __str__(self) -> str:
        layers = self.explain()
        width = max(len(layer.name) for layer in layers)
        rows = [f"{'layer':{width}}  bits  rate    error    kernel"]
        for layer in layers:
            rate = "      " if math.isnan(layer.rate) else f"{layer.rate:6.1%}"
            error = f"{layer.error:7.2%}" if layer.error else " " * 7
            note = "" if layer.exact else " (not exact)"
            rows.append(f"{layer.name:{width}}  {layer.bits or '':4}  {rate}  {error}  {layer.kernel}{note}")
        return "\n".join(rows)


def compile(net: SpikingNet, example: Any, precision: str = "int8", *, steps: int = 8) -> CompiledNet:
    """`net` for inference: the same call, the same state, fused kernels.

        fast = rb.compile(snn, images)              # int8 weights
        ys, state = fast(rb.constant(images, steps=8))

    Each spiking layer with all that drives it becomes a stage, letters in, letters out, as bytes; drives never reach
    memory. precision: of the weights that read letters. "int8" rounds them to whole numbers with a scale per output, by
    least squared error; sums are exact, potentials and neurons stay float32. "fp32" leaves them as they are. "bf16"
    rounds weights and drives to bfloat16. What reads real numbers, and the readout, stays float32. example: an input
    `[N, ...]`, run for `steps` steps for the firing rates and to choose the fastest kernel; no answer depends on it in
    int8. Batch norms are folded first. `explain()` lists what runs each layer; what no stage takes runs as in `net`.

    Stages run on a CPU, or `with rb.kernels.use("triton"):` around this call on a GPU, for `net` and `example` there.
    Weights that are not of 8 bits are read by PyTorch's own operations there; no GPU has run it yet.

    Raises InputError for an example of the wrong shape, SpecError for an unknown precision, KernelError where Triton is
    asked for and does not take a neuron, and later for a compiled network that is moved.

    >>> import rheobase as rb, torch
    >>> ann = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8), torch.nn.ReLU(),
    ...     torch.nn.Linear(8, 2)).eval()
    >>> snn, _ = rb.convert(ann, rb.methods.opi(), [torch.rand(64, 4)])
    >>> x = torch.rand(5, 4)
    >>> fast = rb.compile(snn, x)
    >>> torch.equal(fast(rb.constant(x, steps=8))[0], fast.net(rb.constant(x, steps=8))[0])
    True
    """
    with context("compile"), torch.no_grad():
        nearest(precision, PRECISIONS, "precision")
        net = ready(net)
        steps = net.clock or steps
        _check(net, example)
        rates = observed(net, first(example, 8), steps)
        plan = Plan(net, precision, rates, engine())
        row, origin = plan.steps(), net.provenance | {"precision": precision}
        made = SpikingNet(replace(net.graph, tensors=plan.tensors), origin).eval()
        return CompiledNet(made, row, rates, plan.engine).tuned(first(example, 8), steps)


def computed(net: SpikingNet | CompiledNet) -> SpikingNet:
    """The network that a run computes: itself, or the one behind a compiled one."""
    return net.net if isinstance(net, CompiledNet) else net


def ready(net: SpikingNet) -> SpikingNet:
    """The network with batch norms and constant thresholds folded, in eval mode; itself if there is nothing to fold."""
    trained = any(isinstance(node.op, ops.TRAINED) for node in net.graph_nodes)
    unfolded = any(
        not (node.op.letters or node.op.neuron.threshold.graded)
        for node in net.graph_nodes
        if isinstance(node.op, ops.Spike)
    )
    return folded(net) if trained or unfolded else net


def _check(net: SpikingNet, example: Any) -> None:
    for name, part in named(example, list(net.inputs)).items():
        shape = net.inputs[name]
        if tuple(part.shape[1:]) != shape or part.ndim < 1 or len(part) == 0:
            raise InputError(
                f"the example {name} is {tuple(part.shape)}, expected [N, {', '.join(map(str, shape))}]",
                why="the network was made for samples of that shape",
                instead="a batch of images, without time",
            )
        net.check(name, constant(part, net.block), None)


def observed(net: SpikingNet, example: Any, steps: int) -> dict[str, float]:
    """For each node the share of its values that are not 0, over `steps` steps of constant coding."""
    found: dict[str, float] = {}

    def see(visit: Visit) -> None:
        found[visit.node.name] = float((visit.ys != 0).float().mean())

    net.run(each(lambda part: constant(part, steps * net.block), example), None, see)
    return found


def _slower(drive: Drive) -> dict[str, str]:
    best = drive.took.get(drive.chosen, 0.0)
    return {
        f"{drive.name}: {name}": f"{1e3 * taken:.2f} ms on the example, {drive.chosen} {1e3 * best:.2f}"
        for name, taken in drive.took.items()
        if name != drive.chosen
    }


def _fastest(step: Stage, on: Run) -> Stage:
    """The stage with the fastest kernel of each drive, the others as they are."""
    for k, drive in enumerate(step.drives):
        if len(drive.kernels) > 1:
            took = {name: _seconds(_with(step, k, replace(drive, chosen=name)), on) for name in drive.kernels}
            step = _with(step, k, replace(drive, chosen=min(took, key=lambda name: took[name]), took=took))
    return step


def _with(step: Stage, k: int, drive: Drive) -> Stage:
    return replace(step, drives=(*step.drives[:k], drive, *step.drives[k + 1 :]))


def _seconds(step: Stage, on: Run) -> float:
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        step.run(on)
        taken.append(time.perf_counter() - start)
    return min(taken)


def _spent(steps: tuple[Step, ...], net: SpikingNet) -> list[list[str]]:
    """For each step the values that nothing needs any more once it has run."""
    last = {name: k for k, step in enumerate(steps) for name in (*step.reads, step.node.name)}
    for name in tensors(net.output):
        last.pop(name, None)
    return [[name for name, at in last.items() if at == k] for k in range(len(steps))]


def _longest(steps: tuple[Step, ...], spent: list[list[str]]) -> int:
    """In how many steps of constant coding values take half the memory of the potentials; in up to 8, all of it."""
    sizes = {step.node.name: math.prod(step.node.shape) for step in steps}
    letters = {step.node.name for step in steps if isinstance(step, Stage | Pool)}
    held, moving = dict[str, int](), set[str]()  # bytes of each value; which differ from step to step
    most, potentials = 1, 0
    for step, done in zip(steps, spent, strict=True):
        name = step.node.name
        potentials += 4 * sizes[name] * isinstance(step.node.op, ops.Spike)
        if name in letters:
            held[name] = sizes[name]
        else:
            held |= {read: 5 * sizes[read] for read in letters.intersection(step.reads)}  # as floats too
            if isinstance(step.node.op, STATEFUL) or moving.intersection(step.reads):
                held[name] = 4 * sizes[name]
        moving.update(held)
        most = max(most, sum(held.values()))
        for gone in done:
            held.pop(gone, None)
    as_much = potentials // most
    return max(min(8, as_much), as_much // 2)
