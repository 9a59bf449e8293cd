"""What to change in the layers to blame, and what each change gains, measured by running the changed network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import ops
from .alphabet import binary, burst, signed
from .convert import choose_methods, fit, splice
from .correction import NeuronStart, StepBias, Uncorrected
from .diagnosis import FAULTS, PARTS, LayerDiagnosis, Proposal, ranked
from .fold import differences
from .gate import Open, SentCharge
from .graph import Graph
from .initial import Half, Matched, Uniform
from .inputs import count, each, split
from .limit import flat
from .method import Method
from .network import SpikingNet
from .observe import observe, signs
from .refine import correct
from .reset import Subtract, ToValue
from .scale import Max, MinMSE
from .spec import from_json
from .threshold import Fixed, Radix


class Outcome(NamedTuple):
    """How good answers are: RMS error relative to the ANN's, and the share that is right (None if no class)."""

    error: float
    agreement: float | None


def outcome(answers: Tensor, ann: Tensor, truth: Tensor | None) -> Outcome:
    """Answers `[N, ...]` beside the ANN's; truth: the right classes `[N]`, None if an answer is no class."""
    error = float((answers - ann).square().sum().sqrt() / ann.square().sum().sqrt().clamp(min=1e-300))
    return Outcome(error, None if truth is None else float((answers.argmax(1) == truth).double().mean()))


class Trial(NamedTuple):
    """What a changed network is run and judged on."""

    x: Any
    ann: Tensor
    truth: Tensor | None
    steps: int

    def __call__(self, net: SpikingNet) -> Outcome:
        answers = []
        for piece in split(self.x, net.together):
            *_, ys = net.present(piece, self.steps)
            answers.append(flat(each(lambda part: part[-1], ys)))
        return outcome(torch.cat(answers), self.ann, self.truth)


def proposals(
    net: SpikingNet,
    source: Graph,
    methods: Mapping[str, Method],
    layers: Sequence[LayerDiagnosis],
    trial: Trial,
    most: int,
    progress: Callable[[str, int], None] | None = None,
) -> tuple[tuple[Proposal, ...], int]:
    """A proposal for each of the `most` layers with the largest share, and how many networks were run for them.

    Of the changes against a layer's worst part the one that helps most is proposed, whether or not it helps.
    """
    made, runs = [], 0
    for layer in ranked(layers)[:most]:
        tried = []
        for part in sorted(PARTS, key=lambda part: (part != layer.worst, -layer.parts[part].share)):
            for change, method in remedies(part, methods[layer.name], trial.steps):
                found = trial(changed(net, source, methods, layer.name, method, trial.x))
                tried.append(
                    Proposal(
                        layer=layer.name,
                        part=part,
                        change=change,
                        method=method,
                        error=found.error,
                        agreement=found.agreement,
                    )
                )
                if progress:
                    progress("proposals", count(trial.x))
            if tried:
                break
        runs += len(tried)
        made += sorted(tried, key=lambda proposal: proposal.error)[:1]
    return tuple(made), runs


def remedies(part: str, method: Method, steps: int) -> Iterator[tuple[str, Method | None]]:
    """What may be done against a part of the error, as a sentence and the method of the layer."""
    still = isinstance(method.threshold, Fixed)
    if part in FAULTS:
        yield "convert again with the same method: something was changed since", None
    elif part == "correction":
        yield f"a bias for each of {steps} steps", replace(method, correction=StepBias(steps))
    elif isinstance(method.reset, ToValue):
        yield "take off what was sent instead of a hard reset", replace(method, reset=Subtract())
    elif part == "clipping":
        full, channelwise = Fixed() if still else method.threshold, method.scale.channelwise
        levels = method.alphabet.levels_of(steps)
        least = MinMSE(method.threshold.levels if isinstance(method.threshold, Radix) else levels, channelwise)
        yield "the largest activation as threshold", replace(method, scale=Max(channelwise=channelwise), threshold=full)
        yield f"the threshold of least squared error for {steps} steps", replace(method, scale=least, threshold=full)
    elif part == "start":
        yield "start at half the threshold", replace(method, initial=Half())
    elif isinstance(method.threshold, Radix):
        digits = replace(method.threshold, base=2 * method.threshold.base)
        parts = {"alphabet": burst(digits.base - 1), "scale": MinMSE(digits.levels), "initial": Half()}
        yield f"digits of base {digits.base}", replace(method, threshold=digits, **parts)
    elif not still:
        yield "a threshold that stands still", replace(method, threshold=Fixed(), initial=Half(), alphabet=binary)
    elif part == "unevenness" and method.alphabet.uniform and not method.alphabet.signed:
        taking_back = signed(len(method.alphabet.levels), floor=True)
        yield "negative letters against charge already sent", replace(method, alphabet=taking_back, gate=SentCharge())
        yield f"a bias for each of {steps} steps", replace(method, correction=StepBias(steps))
    elif method.alphabet.uniform:
        yield "twice as many letters, each worth half", finer(method, steps)


def finer(method: Method, steps: int) -> Method:
    """Twice the levels below the same ceiling."""
    alphabet, k = method.alphabet, 2 * len(method.alphabet.levels)
    letters = signed(k, floor=alphabet.floor) if alphabet.signed else burst(k)
    if isinstance(method.scale, MinMSE):
        levels = 2 * method.levels or letters.levels_of(steps)
        return replace(method, alphabet=letters, scale=replace(method.scale, levels=levels))
    if alphabet.signed and isinstance(method.gate, Open):  # two-sided: the gain is always 1
        return replace(method, alphabet=letters, scale=MinMSE(steps * k, method.scale.channelwise))
    assert isinstance(method.threshold, Fixed)
    return replace(method, alphabet=letters, threshold=Fixed(method.threshold.gain / 2))


def methods_of(net: SpikingNet, source: Graph) -> dict[str, Method]:
    """The method of each layer: what the network says it was made by, with the neurons that it has now."""
    rules = net.provenance.get("method")
    if rules is None:
        chosen = {name: Method(initial=Uniform()) for name, _ in net.sites()}
    else:
        given = from_json(rules) if "kind" in rules else {pattern: from_json(rule) for pattern, rule in rules.items()}
        chosen = choose_methods(source, given)
    return {name: chosen[name].of(neuron) for name, neuron in net.sites()}


def started(net: SpikingNet, name: str, method: Method) -> bool:
    """Whether the initial potential of a layer is the one of its method; one of chance or fitted is believed."""
    if isinstance(method.initial, (Uniform, Matched)) or isinstance(method.correction, NeuronStart):
        return True
    theta0, v0, *_ = net.tensors(name)
    generator = torch.Generator().manual_seed(0)
    expected = method.initial.fit(method.neuron.threshold.rest(theta0), theta0.shape, generator)
    return bool(((v0 - expected).abs() <= 0.01 * theta0).all())


def changed(
    net: SpikingNet, source: Graph, methods: Mapping[str, Method], name: str, method: Method | None, x: Any
) -> SpikingNet:
    """The network with another method in one layer, fitted to `x`; the tensors of all others as they are."""
    fitted = {site: dict(net.weights(site)) for site in methods}
    if method is not None:
        theta0, generator = fitted[name]["theta0"], torch.Generator().manual_seed(0)
        if method.scale != methods[name].scale or isinstance(method.scale, (Max, MinMSE)):
            channelwise, both = dict.fromkeys(methods, method.scale.channelwise), signs(source, {name: method.scale})
            histogram = observe(source, [(x, None)], channelwise, both=both)[name]
            index = [node.name for node in source.of(ops.Rectify)].index(name)
            theta0 = fit(source, source[name], method, histogram, index, generator)["theta0"]
        v0 = method.initial.fit(method.neuron.threshold.rest(theta0), source[name].shape, generator)
        if isinstance(method.initial, Matched):  # found in a walk through all layers, and kept
            v0 = fitted[name]["v0"] * (theta0 / fitted[name]["theta0"])
        fitted[name] = {k: t for k, t in fitted[name].items() if k != "bias"} | {"theta0": theta0, "v0": v0}
        others = {site: replace(m, correction=Uncorrected()) for site, m in methods.items()}
        methods = others | {name: method}
        correct(source, methods, fitted, [(x, None)])
    return SpikingNet(differences(splice(source, methods, fitted))).eval()
