"""A module with neurons as a network over time: trained, folded, saved, evaluated, lowered to single spikes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rheobase as rb
from rheobase import ops
from rheobase.testing import dyadic

X = dyadic(5, 1, 8, 8, seed=9)
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "if": rb.IF,
    "lif": rb.LIF,
    "plif": rb.PLIF,
    "hard": lambda: rb.LIF(reset=rb.ToValue(0.0)),
    "mt_lif": lambda: rb.MultiThresholdLIF.mt_lif(4),
    "parallel": lambda: rb.MultiThresholdLIF(3, 0.75, leak=rb.LearnedDecay()),
    "powers": lambda: rb.MultiThresholdLIF(3, ladder="binary"),
    "cascade": lambda: rb.MultiThresholdLIF(4, mode="cascade"),
    "digits": lambda: rb.MultiThresholdLIF(3, mode="cascade", ladder="binary", leak=0.5),
    "signed": lambda: rb.Population(rb.Neuron(alphabet=rb.signed(2), surrogate=rb.ATan())),
    "floored": lambda: rb.Population(rb.Neuron(alphabet=rb.signed(3, floor=True), surrogate=rb.Sigmoid())),
    "mlf": rb.MLF,
    "lmht": rb.LMHT,
    "ilif": rb.ILIF,
    "ternary": lambda: rb.TernarySpike(amplitude=0.5),
    "learned threshold": lambda: rb.MultiThresholdLIF(2, 0.5, learn_threshold=True),
}
each_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())


class Net(nn.Module):
    """A residual sum, a value that skips every neuron, a maximum, batch norm and dropout."""

    def __init__(self, layer: Callable[[], nn.Module], norm: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm: nn.Module = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.drop = nn.Dropout(0.25)
        self.fires, self.again = layer(), layer()
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fires(self.norm(self.first(x)))
        z = self.again(self.second(self.drop(y)) + y + x)
        return self.head(self.pool(z).flatten(1))


def sharp(module: nn.Module, scale: float = 1.0) -> nn.Module:
    """Weights that are multiples of 1/64."""
    for seed, parameter in enumerate(module.parameters()):
        if parameter.ndim:
            parameter.data = dyadic(*parameter.shape, seed=seed, low=-1, high=1) * scale
    return module


def answers(net: rb.SpikingNet, steps: int = 4, x: Tensor = X) -> Tensor:
    with torch.no_grad():
        return net(rb.constant(x, steps))[0]


# Reading


@each_layer
def test_a_network_is_its_module_called_step_by_step(layer):
    module = sharp(Net(layer)).eval()
    net = rb.spiking(module, X[:1])
    m: Any = module
    with torch.no_grad():
        drive = m.first(X)
        ys, _ = m.fires(rb.constant(drive, 4))
        second = torch.stack([m.second(y) + y + X for y in ys])
        zs, _ = m.again(second)
        out = torch.stack([m.head(m.pool(z).flatten(1)) for z in zs])
    means = out.cumsum(0) / torch.arange(1, 5).reshape(-1, 1, 1)
    torch.testing.assert_close(answers(net), means)
    assert not net.training


@each_layer
def test_gradients_reach_every_parameter_and_learning_helps(layer):
    torch.manual_seed(0)
    module = Net(layer, norm=True).train()
    net = rb.spiking(module, X[:1])
    assert net.training
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    x, target = dyadic(32, 1, 8, 8, seed=1), torch.arange(32) % 3
    optimiser, losses = torch.optim.Adam(net.parameters(), 0.02), []
    for _ in range(12):
        ys, _ = net(rb.constant(x, 2))
        losses.append(nn.functional.cross_entropy(ys[-1], target))
        optimiser.zero_grad()
        losses[-1].backward()
        assert [name for name, p in net.named_parameters() if p.grad is None] == []
        optimiser.step()
    assert losses[-1] < losses[0]
    assert all(torch.equal(p, before[name]) for name, p in module.named_parameters())  # only read, never trained


def test_parameters_have_the_names_of_the_module():
    module = Net(rb.PLIF, norm=True)
    names = {name.removeprefix("nodes.") for name, _ in rb.spiking(module, X[:1]).named_parameters()}
    assert names == {name for name, _ in module.named_parameters()}


def test_a_module_called_twice_has_one_set_of_weights_and_two_memories():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.lif = nn.Linear(4, 4), rb.PLIF()

        def forward(self, x: Tensor) -> Tensor:
            return self.lif(self.linear(self.lif(self.linear(x))))

    net = rb.spiking(Twice(), torch.rand(1, 4))
    assert len(list(net.parameters())) == 3
    assert len(list(net.sites())) == 2
    net(rb.constant(torch.rand(3, 4), 2))[0].sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_batch_norm_in_training_is_that_of_all_steps_and_samples_and_moves_its_statistics():
    norm = nn.BatchNorm1d(3, momentum=0.25)
    module = nn.Sequential(nn.Linear(4, 3), rb.IF(), norm, rb.IF())
    net = rb.spiking(module.train(), torch.rand(1, 4))
    xs = dyadic(6, 5, 4, seed=2)
    seen: dict[str, Any] = {}
    net.run(xs, None, lambda visit: seen.update({visit.node.name: visit}))
    spikes = seen["1"].ys
    expected = norm(spikes.flatten(0, 1)).unflatten(0, (6, 5))  # a module in train mode moves its statistics, as ours
    torch.testing.assert_close(seen["2"].ys, expected)
    torch.testing.assert_close(net.weights("2")["running_mean"], norm.running_mean)
    torch.testing.assert_close(net.weights("2")["running_var"], norm.running_var)
    assert int(net.weights("2")["num_batches_tracked"]) == 1
    net.eval()
    before = net.weights("2")["running_mean"].clone()
    answers(net, 2, xs[0])
    assert torch.equal(net.weights("2")["running_mean"], before)


def test_dropout_acts_in_training_only_and_drops_the_same_numbers_at_every_step():
    module = nn.Sequential(nn.Linear(4, 64), rb.LIF(0.25, leak=1.0), nn.Dropout(0.5), nn.Linear(64, 2))
    net = rb.spiking(module.train(), torch.rand(1, 4))
    xs = rb.constant(torch.rand(3, 4) + 1, 16)
    seen: dict[str, Any] = {}
    torch.manual_seed(1)
    net.run(xs, None, lambda visit: seen.update({visit.node.name: visit}))
    before, after = seen["1"].ys, seen["2"].ys
    kept = (after != 0).any(0)
    assert torch.equal(after, 2 * before * kept)
    assert 0.2 < float(kept[(before != 0).any(0)].float().mean()) < 0.8
    net.eval()
    net.run(xs, None, lambda visit: seen.update({visit.node.name: visit}))
    assert torch.equal(seen["2"].ys, seen["1"].ys)


def test_a_module_with_neurons_is_not_converted():
    module = nn.Sequential(nn.Linear(4, 8), rb.IF(), nn.Linear(8, 2)).eval()
    with pytest.raises(rb.ConversionError, match=r"rheobase\.spiking"):
        rb.convert(module, rb.methods.opi(), [torch.rand(8, 4)])
    assert "is a neuron already" in str(rb.preflight(module, torch.rand(1, 4)))


def test_what_cannot_be_trained_as_written_is_refused():
    with pytest.raises(rb.ConversionError, match="no neuron"):
        rb.spiking(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.rand(1, 4))
    with pytest.raises(rb.ConversionError, match="'1' cannot be trained"):
        rb.spiking(nn.Sequential(nn.Linear(4, 3), nn.AlphaDropout(), rb.IF()), torch.rand(1, 4))
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    with pytest.raises(rb.ConversionError, match="computed from others"):
        rb.spiking(nn.Sequential(normed, rb.IF()), torch.rand(1, 4))
    for wrong in ({"levels": 0}, {"threshold": -1.0}, {"mode": "paralel"}, {"ladder": "binry"}):
        with pytest.raises(rb.SpecError):
            rb.MultiThresholdLIF(**wrong)  # type: ignore[arg-type]
    with pytest.raises(rb.SpecError, match="full threshold"):
        rb.MultiThresholdLIF(mode="cascade", reset=rb.ToValue(at="full"))


# The same network as conversion makes: folded, saved, evaluated


@each_layer
def test_a_trained_network_folds_saves_and_evaluates(layer, tmp_path):
    module: Any = sharp(Net(layer, norm=True))
    module.norm.eps = 0.25  # with this variance the norm does not round, so folding changes no bit
    module.norm.running_var.fill_(0.75)
    module.norm.running_mean.copy_(dyadic(4, seed=3))
    module.norm.weight.data = torch.tensor([1.0, 2.0, -0.5, 1.0])
    net = rb.spiking(module.eval(), X[:1])
    folded = rb.folded(net)
    assert not [n for n in folded.graph_nodes if isinstance(n.op, (ops.BatchNorm, ops.Dropout))]
    assert torch.equal(answers(folded), answers(net))
    for one in (net, folded):
        rb.save(tmp_path / "net.safetensors", one)
        again = rb.load(tmp_path / "net.safetensors")
        assert torch.equal(answers(again), answers(one))
        curve = rb.evaluate(again, [(X, torch.zeros(5, dtype=torch.long))], steps=3)
        assert curve.spikes[-1] > 0
        assert curve.graded[-1] == 0
    assert len(rb.predict(folded, X, max_steps=3).steps) == 5


def test_what_is_counted_does_not_depend_on_folding():
    net = rb.spiking(sharp(Net(LAYERS["mt_lif"])).eval(), X[:1])
    a, b = (rb.evaluate(one, [(X, torch.zeros(5, dtype=torch.long))], steps=4) for one in (net, rb.folded(net)))
    assert a.spikes.tolist() == b.spikes.tolist()
    assert a.acs.tolist() == b.acs.tolist()
    assert a.graded.sum() == 0


def test_the_amplitude_of_ternary_spikes_folds_into_the_weights():
    net = rb.spiking(
        nn.Sequential(nn.Linear(4, 8), rb.TernarySpike(amplitude=0.25), nn.Linear(8, 2)).eval(), X[:1, 0, 0, :4]
    )
    folded = rb.folded(net)
    assert [type(n.op).__name__ for n in folded.graph_nodes] == ["Linear", "Spike", "Linear"]
    x = dyadic(9, 4, seed=1)
    torch.testing.assert_close(answers(folded, 3, x), answers(net, 3, x))


# A converted network that trains


def test_a_converted_network_trains_from_where_it_is():
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 8), nn.ReLU(),
                        nn.Linear(8, 3)).eval()  # fmt: skip
    snn, _ = rb.convert(ann, rb.methods.opi(rb.Percentile(99.0)), [X])
    net = rb.trainable(snn)
    assert torch.equal(answers(net), answers(snn))
    names = [name for name, _ in net.named_parameters()]
    assert sum(name.endswith("theta0_exponent") for name in names) == 2
    assert sum(name.endswith("v0_exponent") for name in names) == 2
    x, target = dyadic(32, 1, 8, 8, seed=1), torch.arange(32) % 3
    optimiser, losses = torch.optim.Adam(net.parameters(), 0.05), []
    for _ in range(12):
        ys, _ = net(rb.constant(x, 4))
        losses.append(nn.functional.cross_entropy(ys[-1], target))
        optimiser.zero_grad()
        losses[-1].backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())
        optimiser.step()
    assert losses[-1] < losses[0]
    changed = [net.tensors(name).theta0 for name, _ in net.sites()]
    assert all(bool((theta > 0).all()) for theta in changed)
    assert not torch.equal(changed[0], snn.tensors("1").theta0)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.endswith("theta0_exponent"):
                p.sub_(50.0)  # however far an optimiser goes
    assert all(bool((net.tensors(name).theta0 > 0).all()) for name, _ in net.sites())


def test_a_start_at_zero_is_not_learned():
    ann = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    snn, _ = rb.convert(ann, rb.methods.max_norm(), [torch.rand(64, 4)])
    assert "nodes.1.v0_exponent" not in dict(rb.trainable(snn).named_parameters())


# Lowering


def spikes_only(net: rb.SpikingNet, steps: int, x: Tensor = X) -> Tensor:
    """The answers of a lowered network; every message of a neuron is one unit, or none."""

    def single(visit: Any) -> None:
        if visit.emission is not None:
            units = visit.emission.letters / visit.node.op.neuron.alphabet.unit
            assert set((units + 0.0).unique().tolist()) <= {-1.0, 0.0, 1.0}

    with torch.no_grad():
        return net.run(rb.constant(x, steps), None, single)[0]


@each_layer
@pytest.mark.parametrize("fold", [False, True], ids=["trained", "folded"])
def test_a_trained_network_is_lowered_without_loss(layer, fold, tmp_path):
    module = sharp(Net(layer)).eval()
    net = rb.spiking(module, X[:1])
    net = rb.folded(net) if fold else net
    low = rb.lower(net)
    k = low.block
    expected = max(round(n.alphabet.ceiling / n.alphabet.unit) for _, n in net.sites())
    assert k == expected
    assert torch.equal(spikes_only(low, 4 * k)[k - 1 :: k], answers(net, 4))
    rb.save(tmp_path / "low.safetensors", low)
    assert torch.equal(answers(rb.load(tmp_path / "low.safetensors"), 4 * k), answers(low, 4 * k))
    a = rb.evaluate(net, [(X, torch.zeros(5, dtype=torch.long))], steps=3)
    b = rb.evaluate(low, [(X, torch.zeros(5, dtype=torch.long))], steps=3 * k)
    assert a.accuracy.tolist() == b.accuracy[k - 1 :: k].tolist()
    assert a.spikes.tolist() == b.spikes[k - 1 :: k].tolist()


@pytest.mark.parametrize(
    "alphabet",
    [rb.burst(3), rb.digits(2), rb.signed(2, floor=True), rb.cascade(3, "binary"), rb.power_of_two(3)],
    ids=str,
)
def test_a_converted_network_is_lowered_without_loss(alphabet):
    ann: Any = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(3), nn.Flatten(),
                             nn.Linear(4, 3)).eval()  # fmt: skip
    sharp(ann)
    gate = rb.SentCharge(() if alphabet.uniform else alphabet.letters) if alphabet.signed else rb.Open()
    method = rb.Method(scale=rb.Given((0.5,)), initial=rb.Half(), alphabet=alphabet, gate=gate)
    snn, _ = rb.convert(ann, method, [X])
    low = rb.lower(snn)
    k = low.block
    torch.testing.assert_close(spikes_only(low, 6 * k)[k - 1 :: k], answers(snn, 6))  # the average over 9 rounds


def test_a_lowered_network_goes_on_where_it_stopped_and_runs_in_whole_steps():
    net = rb.spiking(sharp(Net(LAYERS["mt_lif"])).eval(), X[:1])
    low = rb.lower(net)
    with torch.no_grad():
        whole, _ = low(rb.constant(X, 12))
        first, state = low(rb.constant(X, 4))
        then, _ = low(rb.constant(X, 8), state)
        assert torch.equal(torch.cat([first, then]), whole)
        xs = dyadic(3, 5, 1, 8, 8, seed=3)  # another input at every step
        assert torch.equal(low(xs.repeat_interleave(4, 0))[0][3::4], net(xs)[0])
    with pytest.raises(rb.InputError, match="whole steps"):
        low(rb.constant(X, 6))


def test_what_does_not_add_up_is_not_lowered():
    module = nn.Sequential(
        nn.Linear(4, 8), rb.MultiThresholdLIF(2), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 2)
    ).eval()
    with pytest.raises(rb.ConversionError, match=r"'3'.*cannot be lowered"):
        rb.lower(rb.spiking(module, torch.rand(1, 4)))
    low = rb.lower(rb.spiking(module[:3], torch.rand(1, 4)))
    with pytest.raises(rb.ConversionError, match="lowered already"):
        rb.lower(low)
    with pytest.raises(rb.ConversionError, match="lower"):
        rb.trainable(low)


def test_a_wrong_serialisation_is_caught(monkeypatch):
    """The oracle above can fail: spikes one too few for letters of two and more."""
    right = ops.Spike.serial

    def wrong(self: Any, emission: Any) -> Any:
        return right(self, emission._replace(letters=emission.letters.clamp(max=self.neuron.alphabet.unit)))

    net = rb.spiking(sharp(Net(LAYERS["mt_lif"])).eval(), X[:1])
    monkeypatch.setattr(ops.Spike, "serial", wrong)
    assert not torch.equal(answers(rb.lower(net), 16)[3::4], answers(net, 4))


def test_the_program_of_the_docs_runs():
    text = (Path(__file__).parent.parent / "docs" / "direct-training.md").read_text()
    names: dict[str, Any] = {}
    for program in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(program, names)
    deployed, images = names["deployed"], names["images"]
    assert names["spikes"].block == 4
    torch.testing.assert_close(answers(names["spikes"], 8, images)[3::4], answers(deployed, 2, images))
