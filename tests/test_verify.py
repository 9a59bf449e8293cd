"""The certificate: what holds of every method, and that each claim fails of a network that breaks it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import rheobase as rb
from rheobase import kernels, table
from rheobase.certificate import READOUT, Agreement, Check, LayerCheck, accuracy, limit
from rheobase.cli import main
from rheobase.gate import uniform
from rheobase.kernels import reference
from rheobase.neuron import Emission, begin, fire, in_time
from rheobase.preflight import Policy
from trained import digits

METHODS = {
    "opi": rb.methods.opi(),
    "channels": rb.methods.opi(rb.Percentile(99.9, channelwise=True)),
    "max norm": rb.methods.max_norm(),
    "msat": rb.methods.msat_resnet20_cifar10(),
    "dtif": rb.methods.dtif(),
    "burst": rb.methods.burst(),
    "snm": rb.methods.snm(),
    "best": rb.methods.best(4),
}


def converted(method: rb.Method = METHODS["opi"]) -> rb.SpikingNet:
    ann, x, _ = digits()
    return rb.convert(ann, method, [x])[0]


def verified(net: rb.SpikingNet, **settings: Any) -> rb.Certificate:
    ann, x, y = digits()
    return rb.verify(net, ann, [(x, y)], **{"samples": 24, "steps": (16, 64), **settings})


def check(certificate: rb.Certificate, name: str) -> Check:
    return next(check for check in certificate.checks if check.name == name)


def failed(certificate: rb.Certificate) -> set[str]:
    return {check.name for check in certificate.checks if check.holds is False}


# What holds


@pytest.mark.parametrize("name", METHODS)
def test_every_method_that_conserves_charge_is_certified(name: str) -> None:
    certificate = verified(converted(METHODS[name]), steps=(16, 64, 256))
    assert certificate.holds, certificate
    assert {check.name: check.holds for check in certificate.checks if check.name != "limit"}.keys() == {
        "drives", "charge", "accuracy", "second call", "order", "batch size",
    }  # fmt: skip
    assert check(certificate, "limit").holds
    assert certificate.counts == {"spiking": 3, "approximate": 0, "analogue": 0}
    assert [layer.name for layer in certificate.layers] == ["relu1", "relu2", "relu3", READOUT]
    for layer in certificate.layers:
        first, middle, last = layer.errors
        assert first > middle > last
        assert last < first / (4 if name == "msat" else 12)  # a moving threshold: ln(T) / T


def test_in_float64() -> None:
    ann, x, _ = digits()
    ann = copy.deepcopy(ann).double()
    net, _ = rb.convert(ann, METHODS["opi"], [x.double()])
    certificate = rb.verify(net, ann, [x.double()], samples=8, steps=(8, 32))
    assert certificate.holds, certificate


def test_without_labels_answers_are_compared_with_the_clipped_ann() -> None:
    ann, x, y = digits()
    certificate = rb.verify(converted(), ann, iter([x[:10], x[10:40]]), samples=20, steps=(4, 16))
    assert certificate.agreement is not None
    assert certificate.agreement.against == "the clipped ANN's answers"
    assert certificate.agreement.limit == 1.0
    assert certificate.agreement.at == (1, 2, 4, 8, 16)
    assert certificate.samples == 20
    labelled = verified(converted())
    assert labelled.agreement is not None
    with torch.no_grad():
        assert labelled.agreement.ann == float((ann(x[:24]).argmax(1) == y[:24]).double().mean())


def test_functions_are_approximate_or_analogue_and_still_tend_to_the_ann() -> None:
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(6, 20), nn.GELU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 3)).eval()
    x = torch.randn(64, 6)
    expected: dict[Policy, dict[str, int]] = {
        "approximate": {"spiking": 1, "approximate": 1, "analogue": 0},
        "keep": {"spiking": 1, "approximate": 0, "analogue": 1},
    }
    for policy, counts in expected.items():
        net, _ = rb.convert(ann, METHODS["opi"], [x], on_unsupported=policy)
        certificate = rb.verify(net, ann, [x])
        assert certificate.counts == counts
        assert certificate.holds, certificate
        assert check(certificate, "limit").holds


LOSSY = {
    "a hard reset loses what is left over": rb.Method(reset=rb.ToValue(0.0)),
    "its gate loses the charge of the spikes it stops": rb.Method(gate=rb.SpikeConfidence(last_only=False)),
    "a letter is not worth the charge that it takes": rb.methods.dtif(rb.DTIF(graded=False)),
}


@pytest.mark.parametrize("why", LOSSY)
def test_a_neuron_with_another_limit_is_approximate_and_nothing_is_claimed_of_it(why: str) -> None:
    certificate = verified(converted(LOSSY[why]))
    assert certificate.counts == {"spiking": 0, "approximate": 3, "analogue": 0}
    assert {layer.why for layer in certificate.layers[:3]} == {why}
    assert check(certificate, "limit").holds is None
    assert check(certificate, "charge").holds is None
    assert check(certificate, "drives").holds


def test_behind_an_approximate_layer_the_limit_is_not_claimed_but_charge_is() -> None:
    ann, x, _ = digits()
    net, _ = rb.convert(ann, {"relu2": rb.Method(reset=rb.ToValue(0.0)), "": METHODS["opi"]}, [x])
    certificate = verified(net)
    assert [layer.claimed for layer in certificate.layers] == [True, False, False, False]
    assert [layer.charge is None for layer in certificate.layers] == [False, True, False, True]
    assert certificate.holds


def test_too_few_steps_decide_nothing() -> None:
    found = check(verified(converted(METHODS["max norm"]), steps=(1, 2)), "limit")
    assert found.holds is None
    assert "more steps will tell" in found.found


# What must be caught


@pytest.mark.parametrize("size", [1e-3, 1.0])
def test_a_wrong_bias_is_caught_at_its_layer(size: float) -> None:
    net = converted()
    with torch.no_grad():
        net.weights("conv2")["bias"][3] += size
    certificate = verified(net)
    assert "drives" in failed(certificate)
    assert check(certificate, "drives").found.startswith("'relu2' receives something else")


def test_a_threshold_that_was_changed_but_not_the_weights_behind_it_is_caught() -> None:
    net = converted()
    net.weights("relu2")["theta0"].mul_(1.01)
    certificate = verified(net)
    assert "drives" in failed(certificate)
    assert check(certificate, "drives").found.startswith("'relu3'")
    assert check(certificate, "charge").holds


def test_a_plateau_of_the_error_is_caught() -> None:
    net = converted()
    with torch.no_grad():
        net.weights("linear")["bias"][0] += 2.0
    certificate = verified(net, steps=(16, 64, 256))
    assert {"drives", "limit"} <= failed(certificate)
    assert "'readout'" in check(certificate, "limit").found


@contextmanager
def kernel(run: Callable[..., tuple[Emission, rb.Membrane]]) -> Iterator[None]:
    """Every neuron runs by `run`."""
    kept = kernels.KERNELS[:]
    kernels.KERNELS[:] = [kernels.Kernel("wrong", run, reference.declines)]
    try:
        yield
    finally:
        kernels.KERNELS[:] = kept


def leaking(neuron: rb.Neuron, tensors: rb.Tensors, xs: Tensor, m: rb.Membrane | None) -> Any:
    emission, m = reference.run(neuron, tensors, xs, m)
    return emission, m._replace(v=m.v * 0.999)


def tiring(neuron: rb.Neuron, tensors: rb.Tensors, xs: Tensor, m: rb.Membrane | None) -> Any:
    """Conserves charge, but fires no more after 12 steps."""
    m = begin(neuron, tensors, xs, m)
    letters = []
    for x in xs:
        if m.t < 12:
            (s, _), m = fire(neuron, tensors, x, m)
        else:
            s, m = torch.zeros_like(x), m._replace(v=m.v + x, t=m.t + 1)
        letters.append(s)
    return Emission(in_time(letters), neuron.threshold.rest(tensors.theta0)), m


def mixing(neuron: rb.Neuron, tensors: rb.Tensors, xs: Tensor, m: rb.Membrane | None) -> Any:
    """What a batch norm in train mode would do: samples hear of each other."""
    return reference.run(neuron, tensors, xs - 0.1 * xs.mean(1, keepdim=True), m)


def by_place(neuron: rb.Neuron, tensors: rb.Tensors, xs: Tensor, m: rb.Membrane | None) -> Any:
    """The first sample of a batch is treated in another way."""
    first = torch.zeros_like(xs)
    first[:, 0] = 0.1
    return reference.run(neuron, tensors, xs + first, m)


@pytest.mark.parametrize(
    ("wrong", "caught", "not_caught"),
    [
        (leaking, {"charge"}, {"drives", "second call", "order", "batch size"}),
        (tiring, {"limit"}, {"drives", "charge", "second call", "order", "batch size"}),
        (mixing, {"charge", "batch size"}, {"drives", "second call"}),
        (by_place, {"charge", "order", "batch size"}, {"drives", "second call"}),
    ],
)
def test_a_wrong_neuron_is_caught(wrong: Any, caught: set[str], not_caught: set[str]) -> None:
    net = converted()
    with kernel(wrong):
        found = failed(verified(net))
    assert caught <= found
    assert not found & not_caught


def test_hidden_state_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    net, calls, honest = converted(), [0], rb.SpikingNet.readout

    def remembering(self: rb.SpikingNet, ys: Tensor, state: Any, memory: Any) -> Any:
        calls[0] += 1
        return honest(self, ys + 1e-6 * calls[0], state, memory)

    monkeypatch.setattr(rb.SpikingNet, "readout", remembering)
    assert "second call" in failed(verified(net))


def test_random_gates_must_not_know_the_place_in_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    net = converted(rb.Method(threshold=rb.MSAT(), gate=rb.SpikeConfidence(last_only=False)))
    for name, _ in net.sites():
        net.weights(name)["confidence"].fill_(0.5)
    assert not {"order", "batch size", "second call"} & failed(verified(net))

    def by_place(self: rb.SpikeConfidence, s: Tensor, tensors: rb.Tensors, m: rb.Membrane, unit: Any = 1.0) -> Tensor:
        assert tensors.key is not None
        return s * (uniform(tensors.key, m.t, s.shape, s.device) < 0.5).to(s.dtype)

    monkeypatch.setattr(rb.SpikeConfidence, "__call__", by_place)
    assert {"order", "batch size"} <= failed(verified(net))


@pytest.mark.parametrize(("size", "holds"), [(1e-4, True), (0.1, False)])
def test_rounding_that_moves_a_spike_is_told_from_a_dependence_on_the_batch(size: float, holds: bool) -> None:
    def rounding(neuron: rb.Neuron, tensors: rb.Tensors, xs: Tensor, m: rb.Membrane | None) -> Any:
        other = size * xs.shape[1] / 24 if xs.dtype == torch.float32 else 0.0
        return reference.run(neuron, tensors, xs * (1 + other), m)

    net = converted()
    with kernel(rounding):
        found = check(verified(net), "batch size")
    assert found.found != "the same bits"
    assert found.holds is holds


@pytest.mark.parametrize(
    ("errors", "holds"),
    [
        ((0.16, 0.04, 0.01), True),
        ((0.16, 0.011, 0.01), True),  # luck at T = 64
        ((0.16, 0.10, 0.04), True),  # slow at first
        ((0.17, 0.05, 0.03), False),  # 1 / T over a plateau of 2 %
        ((0.10, 0.10, 0.10), False),
        ((1e-5, 1e-5, 1e-5), True),
        ((1.0, 0.99, 0.98), None),
    ],
)
def test_an_error_must_fall(errors: tuple[float, ...], holds: bool | None) -> None:
    layer = LayerCheck(name=READOUT, kind=READOUT, errors=errors, claimed=True)
    assert limit([layer], (16, 64, 256), 0.0).holds is holds


def agreement(*shares: float, n: int = 100) -> Agreement:
    """Right answers of n samples, the first ones, after 1, 2, 4, ... steps."""
    hits = tuple(tuple(i < share * n for i in range(n)) for share in shares)
    at = tuple(2**i for i in range(len(shares)))
    return Agreement(against="the labels", chance=0.1, at=at, hits=hits, limit=1.0, ann=1.0)


def test_accuracy_may_not_fall_by_more_than_noise() -> None:
    assert accuracy(agreement(0.5, 0.9, 0.95)).holds
    assert accuracy(agreement(0.5, 0.95, 0.93)).holds  # 2 of 100 lost: 1.4 standard errors
    fall = accuracy(agreement(0.95, 0.9, 0.8, 0.82))
    assert fall.holds is False
    assert "from 95.0% at T = 1 to 80.0% at T = 4" in fall.found
    assert accuracy(agreement(0.1, 0.0, 0.9)).holds  # what is not above chance cannot fall
    assert accuracy(None).holds is None


# Faces


def test_it_prints_and_is_data() -> None:
    certificate = verified(converted())
    data = json.loads(json.dumps(certificate.to_json()))
    assert data["holds"] is True
    assert data["counts"]["spiking"] == 3
    assert [one["name"] for one in data["layers"]] == ["relu1", "relu2", "relu3", "readout"]
    assert str(certificate).splitlines()[0] == "activations: 3 spiking, 0 approximate, 0 analogue"
    assert len(table.certificate(certificate).rows) == 7
    rows = table.limits(certificate).rows
    assert {len(row) for row in rows} == {len(table.limits(certificate).columns)}
    assert rows[0][0] == "relu1"


def test_bad_input() -> None:
    ann, x, _ = digits()
    net = converted()
    with pytest.raises(rb.InputError, match="verify: the spiking network was not converted from this DigitsNet"):
        rb.verify(net, type(ann)(channels=8).eval(), [x])
    with pytest.raises(rb.SpecError, match="several, ascending"):
        rb.verify(net, ann, [x], steps=(16,))
    with pytest.raises(rb.SpecError, match="several, ascending"):
        rb.verify(net, ann, [x], steps=(16, 8))
    with pytest.raises(rb.InputError, match="no calibration data"):
        rb.verify(net, ann, [])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    ann, x, y = digits()
    save_file(ann.state_dict(), tmp_path / "net.safetensors")
    rb.save(tmp_path / "snn.safetensors", converted())
    np.savez(tmp_path / "data.npz", x=x[:40].numpy(), y=y[:40].numpy())
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMAND = ("--snn", "snn.safetensors", "--model", "rheobase.nets:DigitsNet", "--weights", "net.safetensors",
           "--data", "data.npz", "--limit", "16", "--steps", "8,32")  # fmt: skip


def test_the_command_ends_with_1_if_a_claim_fails(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", *COMMAND]) == 0
    out = capsys.readouterr().out
    assert "3 spiking" in out
    assert "FAILS" not in out
    net = rb.load("snn.safetensors")
    net.weights("relu1")["theta0"].mul_(2)
    rb.save("snn.safetensors", net)
    assert main(["verify", *COMMAND]) == 1
    assert "the certificate FAILS" in capsys.readouterr().out
    assert main(["verify", *COMMAND, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["holds"] is False
    assert main(["verify", *COMMAND[:-1], "32,8"]) == 2


@pytest.mark.slow
@pytest.mark.shared
def test_resnet20_on_cifar10(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rheobase.data import cifar10
    from rheobase.recipes.cifar_conversion import network

    monkeypatch.setenv("RHEOBASE_DATA", str(shared / "data"))
    ann, (x, y) = network("resnet20"), cifar10("train", limit=256)
    net, _ = rb.convert(ann, rb.methods.opi(), [x])
    certificate = rb.verify(net, ann, [(x, y)], samples=16)
    assert certificate.holds, certificate
    assert check(certificate, "limit").holds
    assert certificate.counts["spiking"] == 19
    name = "layer2.1.conv1"
    with torch.no_grad():
        net.weights(name)["bias"][0] += 0.01
    certificate = rb.verify(net, ann, [x], samples=4, steps=(8, 16))
    assert check(certificate, "drives").found.startswith("'layer2.1.relu1'")
