"""A start for each neuron, from what it sent too little of on the calibration data."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import rheobase as rb
from rheobase.preflight import source_graph
from rheobase.remedy import methods_of, started


def made() -> tuple[nn.Sequential, Tensor]:
    """A network whose places mean something: the upper half of every image is brighter."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.Flatten()]
    ann = nn.Sequential(*layers, nn.Linear(6 * 64, 4)).double().eval()
    x = torch.randn(400, 1, 8, 8, dtype=torch.float64)
    x[:, :, :4] += 1.5
    return ann, x


def missing(snn: rb.SpikingNet, ann: nn.Module, x: Tensor, steps: int) -> dict[str, Tensor]:
    """What each neuron sent too little of, mean over samples, by layer."""
    answers: dict[str, Tensor] = {}
    source_graph(ann, x[:8])(x, lambda node, xs, y: answers.update({node.name: y}))
    sums: dict[str, Tensor] = {}

    def see(seen) -> None:
        if seen.emission is not None:
            letters = seen.emission.letters.sum(0) * snn.weights(seen.node.name)["theta0"]
            sums[seen.node.name] = letters + sums.get(seen.node.name, 0)

    with torch.no_grad():
        for _ in snn.present(x, steps, see):
            pass
    return {name: (steps * answers[name] - sent).mean(0) for name, sent in sums.items()}


def test_the_start_moves_by_what_was_missing_in_one_update():
    ann, x = made()
    plain, _ = rb.convert(ann, rb.Method(scale=rb.MinMSE(2), initial=rb.Half()), [x])
    moved, _ = rb.convert(ann, rb.methods.snnc(2, potential=True), [x])
    before, after = plain.weights("1"), moved.weights("1")
    assert after["v0"].shape == (6, 8, 8)
    assert "bias" not in after
    assert torch.allclose(after["v0"] - before["v0"], missing(plain, ann, x, 2)["1"])


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_each_neuron_is_nearer_to_its_mean_on_images_not_seen(steps):
    ann, x = made()
    off = {}
    for name, correction in (("none", rb.Uncorrected()), ("start", rb.NeuronStart(steps))):
        method = rb.Method(scale=rb.Percentile(90.0), correction=correction)
        snn, _ = rb.convert(ann, method, [x[:300]])
        off[name] = missing(snn, ann, x[300:], steps)
    for layer in off["none"]:
        assert off["start"][layer].abs().mean() < 0.75 * off["none"][layer].abs().mean()


def test_a_layer_is_corrected_on_what_corrected_layers_send():
    ann, x = made()
    one = {"1": rb.methods.snnc(2, potential=True), "": rb.Method(scale=rb.MinMSE(2), initial=rb.Half())}
    first, _ = rb.convert(ann, one, [x])
    both, _ = rb.convert(ann, rb.methods.snnc(2, potential=True), [x])
    assert torch.equal(first.weights("1")["v0"], both.weights("1")["v0"])
    assert torch.allclose(both.weights("3")["v0"] - first.weights("3")["v0"], missing(first, ann, x, 2)["3"])


def test_it_is_saved_with_the_network_and_a_diagnosis_believes_it(tmp_path):
    ann, x = made()
    snn, _ = rb.convert(ann, rb.methods.snnc(2, potential=True), [x])
    rb.save(tmp_path / "snn.safetensors", snn)
    back = rb.load(tmp_path / "snn.safetensors")
    assert torch.equal(back.weights("3")["v0"], snn.weights("3")["v0"])
    kept, _ = rb.convert(ann, rb.methods.snnc(2), [x])
    for net, believed in ((snn, True), (kept, False)):
        net.weights("3")["v0"].add_(1.0)
        assert started(net, "3", methods_of(net, source_graph(ann, x[:8]))["3"]) == believed
