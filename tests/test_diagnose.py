"""The diagnosis: parts that sum up, and the layer that was damaged on purpose named for every kind of damage."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import rheobase as rb
from rheobase import ops, plot, table
from rheobase.cli import main
from rheobase.convert import splice
from rheobase.diagnose import _seen, secant
from rheobase.diagnosis import INHERITED, PARTS, Diagnosis, Part
from rheobase.fold import differences
from rheobase.graph import Node
from rheobase.limit import exact, source_of
from rheobase.parts import even, split
from rheobase.remedy import methods_of
from rheobase.worth import worths
from trained import digits

LAYERS = ("relu1", "relu2", "relu3")
OPI = rb.methods.opi()
CHANNELS = rb.methods.opi(rb.Percentile(99.9, channelwise=True))
METHODS = {
    "opi": OPI,
    "channels": CHANNELS,
    "max norm": rb.methods.max_norm(),
    "msat": rb.methods.msat_resnet20_cifar10(),
    "dtif": rb.methods.dtif(),
    "snm": rb.methods.snm(),
    "best": rb.methods.best(4),
    "hard reset": rb.Method(reset=rb.ToValue(0.0)),
}


def converted(method: Any = OPI) -> rb.SpikingNet:
    ann, x, _ = digits()
    return rb.convert(ann, method, [x])[0]


def diagnosed(net: rb.SpikingNet, steps: int = 8, trials: int = 0) -> Diagnosis:
    ann, x, y = digits()
    return rb.diagnose(net, ann, [(x, y)], steps, samples=48, trials=trials)


def rebuilt(net: rb.SpikingNet, change: Callable[[str, dict[str, Tensor]], None]) -> rb.SpikingNet:
    """The network with `change(layer, tensors)` made before the thresholds are folded: all of one piece again."""
    ann, x, _ = digits()
    source = source_of(net, ann, x)
    fitted = {name: {k: t.clone() for k, t in net.weights(name).items()} for name, _ in net.sites()}
    for name, tensors in fitted.items():
        change(name, tensors)
    return rb.SpikingNet(differences(splice(source, methods_of(net, source), fitted)), net.provenance).eval()


# The arithmetic


@pytest.mark.parametrize("name", METHODS)
def test_the_parts_of_each_layer_sum_up_to_its_error(name: str) -> None:
    ann, x, _ = digits()
    net = converted(METHODS[name])
    graph = exact(source_of(net, ann, x))
    with torch.no_grad():
        seen, _ = _seen(net, graph, x[:20], 6, worths(net, graph))
        for layer in LAYERS:
            parts = split(net, graph[layer], seen[layer])
            assert list(parts) == [INHERITED, *PARTS]
            error = seen[layer].sent - seen[layer].ann.y
            torch.testing.assert_close(sum(parts.values()), error, rtol=0, atol=1e-12)
            assert float(parts["folding"].abs().max()) < 1e-12
            assert float(parts["pooling"].abs().max()) < 1e-5
            if not name.startswith("best"):
                assert float(parts["correction"].abs().max()) == 0


def test_the_shares_of_all_layers_sum_up_to_one() -> None:
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(96, 9), nn.ReLU(),
        nn.Linear(9, 4),
    ).eval()  # fmt: skip
    x = torch.rand(40, 1, 8, 8)
    net, _ = rb.convert(ann, OPI, [x])
    diagnosis = rb.diagnose(net, ann, [x], 5, samples=40, trials=0)
    assert sum(layer.share for layer in diagnosis.layers) == pytest.approx(1, abs=1e-5)
    assert abs(diagnosis.unexplained) < 1e-5
    for layer in diagnosis.layers:
        assert layer.share == pytest.approx(sum(layer.parts[part].share for part in PARTS))
    with torch.no_grad():
        gap = net(rb.constant(x, 5))[0][-1] - ann(x)
        assert diagnosis.error == pytest.approx(float(gap.norm() / ann(x).norm()), rel=1e-4)


def test_a_maximum_leaves_little_unexplained() -> None:
    for name in ("opi", "max norm", "dtif"):
        assert abs(diagnosed(converted(METHODS[name])).unexplained) < 0.1


def test_at_even_drive_a_neuron_is_clip_floor_shift() -> None:
    z = torch.linspace(-1, 3, 400).double()[None]
    tensors = rb.Tensors(torch.tensor(0.5).double(), torch.tensor(0.25).double())
    neuron = rb.Neuron(alphabet=rb.burst(2))
    expected = (torch.floor((8 * z + 0.25) / 0.5).clamp(0, 16)) * 0.5 / 8
    torch.testing.assert_close(even(neuron, tensors, z, 8), expected)


def test_secants() -> None:
    a, b = (
        torch.tensor([-1.0, -1.0, 1.0, 2.0, -1.0, 5.0]).double(),
        torch.tensor([-2.0, 1.0, 3.0, 2.0, -1.0, 7.0]).double(),
    )
    node = Node(name="relu", op=ops.Rectify(), inputs=(), shape=())
    assert secant(node, a, b).tolist() == [0, 0.5, 1, 1, 0, 1]
    assert secant(replace(node, op=ops.Rectify(bound=6.0, levels=4)), a, b).tolist() == [0, 0.5, 1, 1, 0, 0.5]


# What a letter is worth


@pytest.mark.parametrize("name", METHODS)
def test_in_a_conversion_every_letter_is_taken_for_what_it_is_worth(name: str) -> None:
    ann, x, _ = digits()
    net = converted(METHODS[name])
    for worth in worths(net, exact(source_of(net, ann, x))).values():
        assert torch.equal(worth, torch.ones_like(worth))


def test_a_changed_threshold_is_told_from_changed_weights() -> None:
    ann, x, _ = digits()
    net = converted(CHANNELS)
    graph = exact(source_of(net, ann, x))
    net.weights("relu2")["theta0"][3] /= 2  # relu2's letters go through a convolution, relu1's also around it
    net.weights("relu1")["theta0"][5] *= 4
    worth = worths(net, graph)
    assert worth["relu2"].flatten()[3].item() == pytest.approx(2, rel=1e-5)
    assert worth["relu1"].flatten()[5].item() == pytest.approx(0.25, rel=1e-5)
    assert sum(float((w - 1).abs().sum()) for w in worth.values()) == pytest.approx(1.75, rel=1e-4)
    other = converted(CHANNELS)
    with torch.no_grad():
        other.weights("conv3")["weight"][0] *= 2
    assert all(torch.equal(w, torch.ones_like(w)) for w in worths(other, graph).values())


# Damage on purpose


def threshold_halved(layer: str) -> rb.SpikingNet:
    half = replace(OPI, threshold=rb.Fixed(0.5))
    return converted({layer: half, "": OPI})


def threshold_halved_in_place(layer: str) -> rb.SpikingNet:
    net = converted()
    net.weights(layer)["theta0"].mul_(0.5)
    return net


def threshold_doubled_in_place(layer: str) -> rb.SpikingNet:
    net = converted(METHODS["best"])
    net.weights(layer)["theta0"].mul_(2)
    return net


def channel_clipped(layer: str) -> rb.SpikingNet:
    def clip(name: str, tensors: dict[str, Tensor]) -> None:
        if name == layer:
            tensors["theta0"][3] *= 0.05
            tensors["v0"][3] *= 0.05

    return rebuilt(converted(CHANNELS), clip)


def channel_clipped_in_place(layer: str) -> rb.SpikingNet:
    net = converted(CHANNELS)
    net.weights(layer)["theta0"][3] *= 0.1
    return net


def start_removed(layer: str) -> rb.SpikingNet:
    net = converted()
    net.weights(layer)["v0"].zero_()
    return net


def start_removed_by_method(layer: str) -> rb.SpikingNet:
    return converted({layer: rb.Method(scale=rb.Percentile(99.9)), "": OPI})


def bias_wrong(layer: str) -> rb.SpikingNet:
    net = converted()
    with torch.no_grad():
        net.weights(layer.replace("relu", "conv"))["bias"][3] += 1.0
    return net


def correction_wrong(layer: str) -> rb.SpikingNet:
    net = converted(METHODS["best"])
    with torch.no_grad():
        net.weights(layer)["bias"].add_(0.5)
    return net


DAMAGE: dict[Callable[[str], rb.SpikingNet], str] = {
    threshold_halved: "clipping",
    threshold_halved_in_place: "folding",
    threshold_doubled_in_place: "folding",
    channel_clipped: "clipping",
    channel_clipped_in_place: "folding",
    start_removed: "start",
    start_removed_by_method: "start",
    bias_wrong: "pooling",
    correction_wrong: "correction",
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_the_damaged_layer_is_named_with_its_damage_and_mended(
    damage: Callable[[str], rb.SpikingNet], layer: str
) -> None:
    found = diagnosed(damage(layer), trials=1)
    assert found.blame[0] == layer
    assert found[layer].worst == DAMAGE[damage]
    if "channel" in damage.__name__:
        assert found[layer].channel == 3
        assert 3 in found[layer].saturated
    (proposal,) = found.proposals
    assert (proposal.layer, proposal.part) == (layer, DAMAGE[damage])
    assert proposal.error < 0.95 * found.error
    assert f"to blame first: {layer!r} ({DAMAGE[damage]})" in str(found)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_start_that_is_not_its_methods_is_named_even_where_it_costs_little(layer: str) -> None:
    net = converted(METHODS["best"])
    net.weights(layer)["v0"].zero_()
    found = diagnosed(net, steps=32)
    assert (found.blame[0], found[layer].fault) == (layer, "start")
    assert "not what a conversion makes" in str(found)


@pytest.mark.parametrize("name", METHODS)
def test_a_sound_network_has_no_faulty_layer(name: str) -> None:
    assert not any(layer.fault for layer in diagnosed(converted(METHODS[name])).layers)


def test_uneven_drive_is_named_where_it_arises() -> None:
    """Two layers that cancel: the second receives +1 early and -1 late although the sum is nothing."""
    ann = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1)).eval()
    with torch.no_grad():
        values = ([[1.0], [1.0]], [0.0, -0.5], [[1.0, -2.0]], [0.0], [[1.0]], [0.0])
        for p, value in zip(ann.parameters(), values, strict=True):
            p.copy_(torch.tensor(value))
    x = torch.full((4, 1), 1.0)
    net, _ = rb.convert(ann, rb.Method(scale=rb.Given((1.0, 1.0)), initial=rb.Zero()), [x])
    found = rb.diagnose(net, ann, [x], 4, samples=4)
    assert found.blame[0] == "3"
    assert found["3"].worst == "unevenness"
    assert found.proposals[0].method is not None
    assert isinstance(found.proposals[0].method.gate, rb.SentCharge)
    assert found.proposals[0].error < found.error


def test_a_pooling_that_is_not_exact_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def stepwise(self: ops.Difference, weights: Any, xs: list[Tensor], memory: Any) -> tuple[Tensor, None]:
        return self.op(weights, *(x.flatten(0, 1) for x in xs)).unflatten(0, xs[0].shape[:2]), None

    net = converted()
    monkeypatch.setattr(ops.Difference, "scan", stepwise)
    found = diagnosed(net)
    assert found.blame[0] == "relu2"  # the first that reads the pool
    assert found["relu2"].worst == "pooling"


def test_dead_channels() -> None:
    def numb(name: str, tensors: dict[str, Tensor]) -> None:
        if name == "relu2":
            tensors["theta0"][7] *= 1e4

    sound, found = diagnosed(converted(CHANNELS)), diagnosed(rebuilt(converted(CHANNELS), numb))
    assert sound["relu2"].dead == ()
    assert found["relu2"].dead == () == found["relu1"].dead  # a letter is worth more than the ANN ever reaches
    net = converted(CHANNELS)
    net.weights("relu2")["v0"][7] = -1e4
    assert diagnosed(net)["relu2"].dead == (7,)


# Proposals


@pytest.mark.parametrize("name", ["max norm", "opi", "hard reset"])
def test_the_predicted_gain_is_what_convert_then_brings(name: str) -> None:
    ann, x, y = digits()
    x, y = x[:48], y[:48]
    net, _ = rb.convert(ann, METHODS[name], [x])
    found = rb.diagnose(net, ann, [(x, y)], 8, samples=48, trials=3)
    assert [p.layer for p in found.proposals] == list(found.blame)
    assert found.runs >= 4
    for proposal in found.proposals:
        assert proposal.method is not None
        again, _ = rb.convert(ann, {proposal.layer: proposal.method, "": METHODS[name]}, [x])
        after = rb.diagnose(again, ann, [(x, y)], 8, samples=48, trials=0)
        assert after.error == pytest.approx(proposal.error, rel=1e-4)
        assert after.agreement == pytest.approx(proposal.agreement)
        assert rb.from_json(proposal.to_json()["method"]) == proposal.method


def test_a_network_that_does_not_say_how_it_was_made_gets_proposals_too() -> None:
    net = converted()
    net.provenance.clear()
    assert diagnosed(net, trials=2).proposals


# Faces


def test_it_prints_and_is_data() -> None:
    found = diagnosed(converted(), trials=1)
    data = json.loads(json.dumps(found.to_json()))
    assert data["blame"] == list(found.blame)
    assert data["layers"][1]["parts"]["clipping"]["rms"] == found["relu2"].parts["clipping"].rms
    assert data["proposals"][0]["change"] == found.proposals[0].change
    lines = str(found).splitlines()
    assert lines[0].split() == ["layer", "share", "clipping", "quantisation", "start", "unevenness", "inherited"]
    assert [line.split()[0] for line in lines[1:4]] == list(LAYERS)
    made = table.diagnosis(found)
    assert {len(row) for row in made.rows} == {len(made.columns)}
    assert made.notes[1].startswith("to blame first")


def many(count: int) -> Diagnosis:
    """A diagnosis of so many layers, with long names."""
    found = diagnosed(converted())
    layers = tuple(replace(found.layers[i % 3], name=f"stage{i}.block.relu") for i in range(count))
    return replace(found, layers=layers)


@pytest.mark.parametrize("count", [3, 20, 55])
def test_the_picture_has_a_bar_for_each_part_and_nothing_overlaps(count: int, tmp_path: Path) -> None:
    found = many(count)
    figure = plot.diagnosis(found)
    costs, errors = figure.axes
    bars = {container.get_label(): container for container in costs.containers}
    assert list(bars) == ["clipping", "quantisation", "start", "unevenness"]
    widths = [bar.get_width() for bar in bars["clipping"]]
    np.testing.assert_allclose(widths, [100 * layer.parts["clipping"].share for layer in found.layers])
    np.testing.assert_allclose(np.asarray(errors.lines[0].get_xdata()), [100 * layer.error for layer in found.layers])
    labels = costs.get_yticklabels()
    assert [label.get_text() for label in labels if label.get_fontweight() == "bold"] == [found.blame[0]]
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in labels]
    assert all(below.y1 <= above.y0 for above, below in pairwise(boxes))
    assert all(box.x0 >= 0 and box.x1 <= costs.get_window_extent().x0 for box in boxes)
    legend = figure.legends[0].get_window_extent()
    assert 0 <= legend.x0 < legend.x1 <= figure.bbox.width
    plot.save(tmp_path / "diagnosis.png", figure)


def test_costs_and_gains_do_not_cover_each_other() -> None:
    found = many(3)
    parts = {name: Part(0.1, 0.0, share) for name, share in zip(PARTS, (0, 0, -0.2, 0.5, -0.1, 0.3, 0), strict=True)}
    first = replace(found.layers[0], parts=found.layers[0].parts | parts)
    costs = plot.diagnosis(replace(found, layers=(first, *found.layers[1:]))).axes[0]
    ends = {c.get_label(): (c[0].get_x(), c[0].get_x() + c[0].get_width()) for c in costs.containers}  # type: ignore[index]
    assert ends["clipping"] == pytest.approx((0, -20))
    assert ends["quantisation"] == pytest.approx((0, 50))
    assert ends["start"] == pytest.approx((-20, -30))
    assert ends["unevenness"] == pytest.approx((50, 80))


def test_bad_input() -> None:
    ann, x, _ = digits()
    net = converted()
    with pytest.raises(rb.InputError, match="diagnose: the spiking network was not converted from this DigitsNet"):
        rb.diagnose(net, type(ann)(channels=8).eval(), [x])
    with pytest.raises(rb.SpecError, match="must be positive"):
        rb.diagnose(net, ann, [x], 0)
    with pytest.raises(rb.InputError, match="NaN"):
        rb.diagnose(net, ann, [x * float("nan")])


def test_neither_network_is_changed() -> None:
    ann, _, _ = digits()
    net = converted(METHODS["best"])
    before = copy.deepcopy((ann.state_dict(), net.state_dict()))
    diagnosed(net, trials=3)
    for was, now in zip(before, (ann.state_dict(), net.state_dict()), strict=True):
        assert all(torch.equal(was[key], now[key]) for key in was)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ann, x, y = digits()
    monkeypatch.chdir(tmp_path)
    save_file(ann.state_dict(), "net.safetensors")
    rb.save("snn.safetensors", start_removed("relu2"))
    np.savez("data.npz", x=x[:40].numpy(), y=y[:40].numpy())
    command = ("diagnose", "--snn", "snn.safetensors", "--model", "rheobase.nets:DigitsNet", "--weights",
               "net.safetensors", "--data", "data.npz", "--steps", "8", "--trials", "1")  # fmt: skip
    assert main([*command, "--out", "d.json", "--plot", "d.svg"]) == 0
    out = capsys.readouterr().out
    assert "to blame first: 'relu2' (start)" in out
    assert "wrote d.json and d.svg" in out
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(Path("d.json").read_text())
    assert main([*command, "--plot", "d.gif"]) == 2
    assert "one of .svg, .png, .pdf" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("layer", ["layer1.1.relu1", "layer3.0.relu2"])
@pytest.mark.parametrize("damage", ["threshold", "start"])
def test_resnet20_on_cifar10(shared: Path, monkeypatch: pytest.MonkeyPatch, damage: str, layer: str) -> None:
    from rheobase.data import cifar10
    from rheobase.recipes.cifar_conversion import network

    monkeypatch.setenv("RHEOBASE_DATA", str(shared / "data"))
    ann, (x, y) = network("resnet20"), cifar10("train", limit=128)
    changed = replace(OPI, threshold=rb.Fixed(0.3))
    net, _ = rb.convert(ann, {layer: changed, "": OPI} if damage == "threshold" else OPI, [x])
    if damage == "start":
        net.weights(layer)["v0"].zero_()
    found = rb.diagnose(net, ann, [(x, y)], 32, samples=32, trials=1)
    assert found.blame[0] == layer
    assert found[layer].worst == ("clipping" if damage == "threshold" else "start")
    assert abs(found.unexplained) < 1e-6
    assert found.proposals[0].error < found.error
