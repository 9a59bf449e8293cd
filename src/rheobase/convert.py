"""From a trained network to a spiking one: trace, fold, observe, fit, splice, refine, report. Nothing flows back."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from . import ops
from .distil import settle
from .errors import ConversionError, context
from .fold import differences, fold_theta
from .gate import Open, SpikeConfidence
from .graph import Graph, Node
from .histogram import Histogram
from .inputs import first
from .message import Kind, messages
from .method import Method
from .network import SpikingNet
from .observe import channel_axis, images, observe, signs
from .preflight import Policy, source_graph
from .refine import correct, residuals, spike_confidence
from .spec import to_json
from .threshold import Radix

log = logging.getLogger("rheobase")
Methods = Method | Mapping[str, Method]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerReport:
    """What became of one activation.

    replaced: the activation as the graph reads it. neuron: what stands there now. source: the line of the model's code.
    theta0: smallest, mean and largest base threshold. clipped: share of activations above what can leave in a step
    (clipping error). spacing: what one letter is worth at rest, the level spacing at T = 1 (quantisation error; T steps
    divide it by T). unevenness: share of neurons whose residual is out of order after `ConversionReport.steps` steps.
    """

    name: str
    source: str
    replaced: str
    neuron: str
    theta0: tuple[float, float, float]
    clipped: float
    spacing: float
    unevenness: float
    confidence: float
    guarded: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionReport:
    """What `convert` did: every spiking layer, every operation that stays analogue with its reason, and the synapses
    whose weights were tuned, which only `Distilled(weights=...)` does."""

    layers: tuple[LayerReport, ...]
    analogue: tuple[tuple[str, str], ...]
    tuned: tuple[str, ...]
    samples: int
    steps: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def __str__(self) -> str:
        width = max(len(layer.name) for layer in self.layers)
        rows = [f"{'layer':{width}}   theta0   clipped  spacing  uneven  conf."]
        for r in self.layers:
            shares = f"{r.clipped:8.2%} {r.spacing:8.4g} {r.unevenness:7.1%} {r.confidence:6.3f}"
            rows.append(f"{r.name:{width}} {r.theta0[1]:8.4g} {shares}")
        rows += [f"analogue: {name} ({why})" for name, why in self.analogue]
        rows += [f"weights tuned: {', '.join(self.tuned)}"] if self.tuned else []
        return "\n".join([*rows, f"calibrated on {self.samples} samples, unevenness after {self.steps} steps"])


def convert(
    ann: nn.Module,
    method: Methods,
    batches: Iterable[Any],
    *,
    on_unsupported: Policy = "error",
    leave: Iterable[str] = (),
    generator: torch.Generator | None = None,
    steps: int = 16,
    progress: Callable[[str, int], None] | None = None,
) -> tuple[SpikingNet, ConversionReport]:
    """A spiking network that computes what `ann` computes, and the report of how.

    ann: a module in eval mode; it is never modified. method: a Method, or `{pattern: Method}` where the first pattern
    (as in fnmatch) that matches the name of an activation wins and "" matches every one. batches: training data, an
    iterable of tensors `[N, ...]` or pairs `(x, y)`, labels unused; x is a tuple or dict of tensors where the model
    takes several. on_unsupported, leave: what to do where there is no exact counterpart, see `preflight`. generator:
    for what is random (`Uniform`, `SpikeConfidence`), seeded with 0 if not given. steps: for the residuals in the
    report. progress(stage, samples) is called after each batch.

    Raises ConversionError, before any calibration, naming node and line of everything it cannot convert; InputError
    for bad data.

    >>> import rheobase as rb, torch
    >>> ann = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    >>> snn, report = rb.convert(ann, rb.methods.opi(), [torch.rand(64, 4)])
    >>> ys, state = snn(rb.constant(torch.rand(5, 4), steps=8))
    >>> ys.shape
    torch.Size([8, 5, 2])
    """
    with context("convert"):
        generator = generator or torch.Generator().manual_seed(0)
        batches = list(batches) if isinstance(batches, Iterator) else batches
        leave = tuple(leave)
        example = next(images(batches))
        source = source_graph(ann, example, on_unsupported, leave)
        chosen = choose_methods(source, method)
        scales = {name: m.scale for name, m in chosen.items()}
        channelwise = {name: scale.channelwise for name, scale in scales.items()}
        samples = 0

        def count(stage: str) -> Callable[[int], None]:
            def advance(n: int) -> None:
                nonlocal samples
                samples += n if stage == "observe" else 0
                if progress:
                    progress(stage, n)

            return advance

        statistics = observe(source, batches, channelwise, count("observe"), signs(source, scales))
        fitted = {
            node.name: fit(source, node, chosen[node.name], statistics[node.name], index, generator)
            for index, node in enumerate(source.of(ops.Rectify))
        }
        tuned, reference = settle(source, chosen, fitted, batches, generator, count)
        correct(tuned, chosen, fitted, batches, count("correct"), reference)
        net = SpikingNet(
            differences(splice(tuned, chosen, fitted)),
            _provenance(method, generator, samples) | {"on_unsupported": on_unsupported, "leave": list(leave)},
        ).eval()
        trust(net, source, chosen, batches, count("confidence"))
        steps = _clock(chosen) or steps
        left = residuals(net, first(example, min(64, max(8, 4 * net.together))), steps)
        for name, what in left.items():
            if what["guarded"]:
                log.warning(
                    "%s: MSAT's threshold underflows in %.1f %% of neurons and steps; the guard holds it at %g theta0",
                    name, 100 * what["guarded"], chosen[name].threshold.guard,  # type: ignore[attr-defined]
                )  # fmt: skip
        changed = tuple(name for name in source.tensors if tuned.tensors[name] is not source.tensors[name])
        return net, _report(source, net, chosen, statistics, left, changed, samples, steps)


def choose_methods(graph: Graph, method: Methods) -> dict[str, Method]:
    """The method of every activation; a pattern that matches nothing is an error."""
    sites = [node.name for node in graph.of(ops.Rectify)]
    if not sites:
        if any(graph.of(ops.Spike)):
            raise ConversionError(
                "the network is made of neurons", why="there is nothing to convert", instead="rheobase.spiking(...)"
            )
        functions = any(isinstance(node.op, ops.Function) for node in graph.nodes)
        raise ConversionError(
            "the network has no activation to replace by a neuron",
            why="every function in it stays analogue" if functions else "without a ReLU or clip it is linear",
            instead='on_unsupported="approximate"' if functions else "check that forward uses its activations",
        )
    rules = {"": method} if isinstance(method, Method) else dict(method)
    for pattern in rules:
        if pattern and not fnmatch.filter(sites, pattern):
            raise ConversionError(
                f"the pattern {pattern!r} matches no activation", why=f"the activations are {', '.join(sites)}"
            )
    chosen = {}
    for name in sites:
        match = next((m for pattern, m in rules.items() if not pattern or fnmatch.fnmatchcase(name, pattern)), None)
        if match is None:
            raise ConversionError(f"no pattern matches {name!r}", instead="add '': method for all others")
        if not match.leak.lossless:
            raise ConversionError(
                f"{match.leak} cannot convert {name!r}",
                why="a leaky neuron forgets part of its drive, so its rate is no rectifier of it",
                instead="leak=Leak(1.0); train leaky networks directly",
            )
        if graph[name].op.signed:
            match = match.two_sided
        elif match.alphabet.signed and isinstance(match.gate, Open):
            raise ConversionError(
                f"{match.alphabet} cannot convert the rectifier {name!r}",
                why="a neuron that may send less than nothing in sum computes no rectifier",
                instead="gate=SentCharge(), which lets negative letters take back what was sent",
            )
        chosen[name] = match
    return chosen


def _clock(methods: Mapping[str, Method]) -> int:
    """The number of steps that all runs of a network must have, 0 where any will do."""
    digits = {method.threshold.steps for method in methods.values() if isinstance(method.threshold, Radix)}
    if len(digits) > 1:
        raise ConversionError(
            f"neurons that count in {' and '.join(map(str, sorted(digits)))} digits in one network",
            why="a digit is sent in each step, and all layers run for the same steps",
            instead="as many digits in every layer",
        )
    return max(digits, default=0)


def fit(
    graph: Graph, node: Node, method: Method, histogram: Histogram, index: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """The tensors of one neuron population.

    A bounded activation must not be exceeded: theta0 is at most the bound divided by what saturated neurons send.
    """
    with context(f"layer {node.name!r} ({node.source or 'no source'})"):
        like = next((t for weights in graph.tensors.values() for t in weights.values()), torch.zeros(()))
        ceiling = method.threshold.saturation(method.alphabet.ceiling)
        theta0 = method.scale.fit(histogram, node.op.bound, index, ceiling).double()
        if node.op.bound is not None:
            theta0 = theta0.clamp(max=node.op.bound / ceiling)
        axis = channel_axis(graph, node)
        theta0 = theta0.reshape(()) if len(theta0) == 1 else theta0.reshape(-1, *(1,) * (len(node.shape) - 1 - axis))
        theta0 = theta0.to(like)
        v0 = method.initial.fit(method.neuron.threshold.rest(theta0), node.shape, generator)
        tensors = {"theta0": theta0, "v0": v0}
        if isinstance(method.gate, SpikeConfidence):
            key = torch.randint(-(2**62), 2**62, (), generator=generator).to(like.device)
            tensors |= {"confidence": torch.ones((), dtype=torch.float32, device=like.device), "key": key}
        return tensors


def splice(graph: Graph, methods: Mapping[str, Method], fitted: Mapping[str, dict[str, Tensor]]) -> Graph:
    """Neurons in the place of activations, constant thresholds folded into the weights behind them."""
    nodes = tuple(
        replace(node, op=ops.Spike(neuron=methods[node.name].neuron)) if node.name in fitted else node
        for node in graph.nodes
    )
    return fold_theta(replace(graph, nodes=nodes, tensors=graph.tensors | dict(fitted)))


def trust(
    net: SpikingNet,
    source: Graph,
    methods: Mapping[str, Method],
    batches: Iterable[Any],
    progress: Callable[[int], None] | None = None,
) -> None:
    """Set the spike confidence of the layers whose gate asks for one, measured with all gates open."""
    gated = {name: m.gate for name, m in methods.items() if isinstance(m.gate, SpikeConfidence)}
    if not gated:
        return
    found = spike_confidence(net, source, batches, max(gate.steps for gate in gated.values()), progress)
    last = list(methods)[-1]
    for name, gate in gated.items():
        if name == last or not gate.last_only:
            confidence = net.weights(name)["confidence"]
            confidence.fill_(found[name])


def _provenance(method: Methods, generator: torch.Generator, samples: int) -> dict[str, Any]:
    rules = to_json(method) if isinstance(method, Method) else {k: to_json(m) for k, m in method.items()}
    return {"method": rules, "seed": generator.initial_seed(), "calibration_samples": samples}


def _report(
    source: Graph,
    net: SpikingNet,
    methods: Mapping[str, Method],
    statistics: Mapping[str, Histogram],
    left: Mapping[str, Mapping[str, float]],
    tuned: tuple[str, ...],
    samples: int,
    steps: int,
) -> ConversionReport:
    layers = []
    for node in source.of(ops.Rectify):
        method, weights = methods[node.name], net.weights(node.name)
        theta0 = weights["theta0"].detach()
        ceiling = theta0.flatten() * method.threshold.saturation(method.alphabet.ceiling)
        confidence = weights.get("confidence")
        layers.append(
            LayerReport(
                name=node.name,
                source=node.source,
                replaced=str(node.op),
                neuron=str(method.neuron),
                theta0=(float(theta0.min()), float(theta0.mean()), float(theta0.max())),
                clipped=float(statistics[node.name].share_above(ceiling).mean()),
                spacing=float(method.neuron.threshold.rest(theta0).mean()),
                unevenness=left[node.name]["unevenness"],
                confidence=1.0 if confidence is None else float(confidence),
                guarded=left[node.name]["guarded"],
            )
        )
    stays = tuple(analogue(net))
    return ConversionReport(layers=tuple(layers), analogue=stays, tuned=tuned, samples=samples, steps=steps)


def analogue(net: SpikingNet) -> Iterator[tuple[str, str]]:
    """Every operation on real numbers that no letters reach, or that no neuron follows, with the reason."""
    sent = messages(net)
    spiking = {name for name, _ in net.sites()}
    for node in net.graph_nodes:
        if isinstance(node.op, ops.Difference) and sent[node.name].kind is Kind.ANALOGUE and not node.op.exact:
            inside = node.name.removesuffix(".function") in spiking
            yield node.name, "evaluated inside the neuron" if inside else "its value on the mean input so far"
        if not isinstance(node.op, ops.SYNAPSES):
            continue
        kind = sent[node.inputs[0]].kind
        if kind is Kind.CONSTANT:
            yield node.name, "reads the analogue input"
        elif kind is Kind.ANALOGUE:
            yield node.name, "reads real numbers: no neuron stands between it and the weights before it"
        elif not _reach(net, node.name) & spiking:
            yield node.name, "readout: sums its drive, no neuron follows"


def _reach(net: SpikingNet, name: str) -> set[str]:
    """The nodes that hear of `name`, directly or through others."""
    reached = {name}
    for node in net.graph_nodes:
        if reached & set(node.inputs):
            reached.add(node.name)
    return reached - {name}
