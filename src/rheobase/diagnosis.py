"""What a diagnosis says of a spiking network: the error of each layer in parts, who is to blame, what to change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from .method import Method
from .spec import to_json

INHERITED = "inherited"
PARTS = ("pooling", "correction", "clipping", "quantisation", "start", "unevenness", "folding")
"""The parts of the error that a layer makes itself, in the order in which they arise."""
FAULTS = ("pooling", "folding")
"""Parts that no method has: the network is not what a conversion of this ANN makes of these thresholds."""


class Part(NamedTuple):
    """One part of the error of a layer: RMS and mean relative to the layer's RMS activation; share of the output error.

    A share is signed, since errors can cancel; the shares of all parts of all layers add up to 1.
    """

    rms: float
    mean: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDiagnosis:
    """The error of one layer, mean emission minus the ANN's activation, as the sum of its parts (units: `Part`).

        inherited      f(z) - a, at the drive z that the mean emissions of the layers before it make
        pooling        what pooling over time, or a synapse that is not the source's, adds to z
        correction     what its bias corrections add to z
        clipping       f(z) that is more than can leave
        quantisation   T steps of this neuron at even drive, started at half its threshold
        start          the same from its own initial potential
        unevenness     the drive in the order in which it came
        folding        what its readers take a letter for beyond what it is worth

    f is the source's activation, a its value in the ANN. error: RMS of the sum. share: of the output error, its parts
    without the inherited one. dead: channels that never fire although the ANN reaches what one letter in T steps is
    worth. saturated: channels of which more than 1 % of the values are clipped. channel: that of the largest share.
    fault: the part in which this layer is not what a conversion by its method makes, whatever it costs, or "".
    """

    name: str
    source: str
    neuron: str
    parts: dict[str, Part]
    error: float
    share: float
    channels: int
    dead: tuple[int, ...]
    saturated: tuple[int, ...]
    channel: int
    channel_share: float
    fault: str

    @property
    def worst(self) -> str:
        """The fault, or the part of its own that costs the answer most."""
        return self.fault or max(PARTS, key=lambda part: self.parts[part].share)


def ranked(layers: Iterable[LayerDiagnosis]) -> list[LayerDiagnosis]:
    """The layer to blame first, first."""
    return sorted(layers, key=lambda layer: (not layer.fault, -layer.share))


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A change of one layer, for `convert(ann, {layer: method, "": the others}, batches)`, and what it gains.

    method None: convert again with the same method, because the network is not what a conversion made. error,
    agreement: of the network with this change, on the samples of the diagnosis, beside those of the diagnosis.
    """

    layer: str
    part: str
    change: str
    method: Method | None
    error: float
    agreement: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain data; the method as `spec.to_json` writes it."""
        data = {name: getattr(self, name) for name in ("layer", "part", "change", "error", "agreement")}
        return data | {"method": None if self.method is None else to_json(self.method)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What `diagnose` found after `steps` steps; layers in the order of the network.

    error: RMS of the answer minus the ANN's, relative to the RMS of the ANN's. agreement: the share of answers that
    agree with what `against` says, ann_agreement that of the ANN; None where an answer is no class. unexplained: the
    share of the output error that no layer has (a maximum over windows is not linear, a staircase neither).
    runs: how often the spiking network was run.
    """

    layers: tuple[LayerDiagnosis, ...]
    proposals: tuple[Proposal, ...]
    steps: int
    samples: int
    error: float
    against: str
    agreement: float | None
    ann_agreement: float | None
    unexplained: float
    runs: int

    @property
    def blame(self) -> tuple[str, ...]:
        """The layers by their share of the output error, the largest first; those with a fault before all others."""
        return tuple(layer.name for layer in ranked(self.layers))

    def __getitem__(self, name: str) -> LayerDiagnosis:
        return next(layer for layer in self.layers if layer.name == name)

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("layers", "proposals")}
        layers = [
            {name: getattr(layer, name) for name in layer.__dataclass_fields__}
            | {"parts": {name: part._asdict() for name, part in layer.parts.items()}}
            for layer in self.layers
        ]
        return plain | {"layers": layers, "proposals": [p.to_json() for p in self.proposals], "blame": self.blame}

    def __str__(self) -> str:
        shown = self.shown_parts()
        width = max(len(layer.name) for layer in self.layers)
        rows = [f"{'layer':{width}}  " + "  ".join(f"{name:>12}" for name in ("share", *shown, INHERITED))]
        for layer in self.layers:
            numbers = [layer.share, *(layer.parts[name].rms for name in (*shown, INHERITED))]
            rows.append(f"{layer.name:{width}}  " + "  ".join(f"{number:12.1%}" for number in numbers))
        return "\n".join([*rows, *self.lines()])

    def shown_parts(self) -> tuple[str, ...]:
        """The parts that are more than rounding in some layer, and the four that every conversion has."""
        usual = ("clipping", "quantisation", "start", "unevenness")
        return tuple(
            name for name in PARTS if name in usual or any(layer.parts[name].rms > 5e-4 for layer in self.layers)
        )

    def lines(self) -> tuple[str, ...]:
        """The diagnosis in sentences: the output, the layer to blame, what to change."""
        first = self[self.blame[0]]
        answers = f"the answer after {self.steps} steps is {self.error:.1%} from the ANN's"
        if self.agreement is not None:
            answers += f"; {self.agreement:.1%} of {self.against}, the ANN {self.ann_agreement:.1%}"
        blame = f"to blame first: {first.name!r} ({first.worst}), {first.share:.0%} of the output error"
        if first.fault:
            blame += ", not what a conversion makes"
        if first.channels > 1:
            blame += f", {first.channel_share:.0%} from its channel {first.channel}"
        proposed = [
            f"proposed for {p.layer!r} ({p.part}): {p.change}; error {self.error:.1%} -> {p.error:.1%}"
            + ("" if p.agreement is None else f", {p.agreement:.1%} of {self.against}")
            for p in self.proposals
        ]
        return (answers, blame, *proposed)
