"""What will become of every node, before any work; and what the policies then do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import rheobase as rb
from rheobase import ops
from rheobase.capture import capture
from rheobase.cli import main
from rheobase.fold import settled
from rheobase.trace import trace

HALF = rb.Method(scale=rb.Max(channelwise=True), initial=rb.Half())


class Mixed(nn.Module):
    """One node of every fate."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout()
        self.mixing, self.pool, self.layers = nn.Conv2d(4, 4, 1), nn.MaxPool2d(2), nn.LayerNorm(64)
        self.head = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.mixing(F.relu(self.norm(self.conv(x)))))
        return self.head(self.layers(self.drop(self.pool(x)).flatten(1)))


def mixed() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Mixed().eval(), torch.randn(16, 3, 8, 8)


def fates(found: rb.Preflight) -> dict[str, str]:
    return {fate.name: fate.fate for fate in found.fates}


ANYWAY = {
    "drop": "fused",
    "norm": "fused",
    "conv": "analogue",
    "relu": "spiking",
    "mixing": "spiking",
    "pool": "spiking",
    "flatten": "spiking",
    "head": "analogue",
}


@pytest.mark.parametrize(
    ("policy", "silu", "layers"),
    [("error", "refused", "refused"), ("keep", "analogue", "analogue"), ("approximate", "approximate", "analogue")],
)
def test_every_node_has_its_fate(policy, silu, layers):
    ann, x = mixed()
    found = rb.preflight(ann, x[:1], on_unsupported=policy)
    assert fates(found) == ANYWAY | {"silu": silu, "layers": layers}
    assert found.ok == (policy != "error")
    assert all(fate.source.startswith("test_preflight.py:") for fate in found.fates)
    assert {fate.name for fate in found.fates if fate.instead} == ({"silu", "layers"} if policy == "error" else set())
    assert json.loads(json.dumps(found.to_json()))["ok"] == found.ok


def test_convert_refuses_what_preflight_refuses_and_says_what_to_write():
    ann, x = mixed()
    with pytest.raises(rb.ConversionError) as error:
        rb.convert(ann, HALF, [x])
    for fate in rb.preflight(ann, x).of("refused"):
        assert fate.name in str(error.value)
        assert fate.source in str(error.value)
    assert "on_unsupported=" in str(error.value)


@pytest.mark.parametrize("policy", ["keep", "approximate"])
def test_under_a_policy_the_limit_is_the_network(policy):
    ann, x = mixed()
    snn, report = rb.convert(ann, HALF, [x], on_unsupported=policy)
    assert [layer.name for layer in report.layers] == (["relu", "silu"] if policy == "approximate" else ["relu"])
    kept = dict(report.analogue)
    assert "mean input" in kept["layers"]
    assert ("silu.function" if policy == "approximate" else "silu") in kept
    errors = falling(ann, snn, x)
    assert errors[-1] < 0.02
    assert errors[-1] < errors[0] / 8


def falling(ann: nn.Module, snn: rb.SpikingNet, x: Any, steps: tuple[int, ...] = (8, 256)) -> list[float]:
    """Relative errors of the readout at these steps."""
    with torch.no_grad():
        answer = ann(x)
        ys, _ = snn(rb.constant(x, steps[-1]))
    return [float((ys[t - 1] - answer).abs().mean() / answer.abs().mean()) for t in steps]


def test_what_is_left_stays_analogue():
    ann, x = mixed()
    snn, report = rb.convert(ann, HALF, [x], on_unsupported="approximate", leave=["re*"])
    assert [layer.name for layer in report.layers] == ["silu"]
    assert isinstance(snn.graph["relu"].op, ops.Difference)
    assert falling(ann, snn, x)[-1] < 0.02
    assert snn.provenance["leave"] == ["re*"]
    with pytest.raises(rb.ConversionError, match="'nothing' matches no node"):
        rb.convert(ann, HALF, [x], on_unsupported="keep", leave=["nothing"])
    with pytest.raises(rb.SpecError, match="did you mean 'keep'"):
        rb.preflight(ann, x, on_unsupported="kep")  # type: ignore[arg-type]


def test_all_problems_at_once_whether_read_or_not():
    class Bad(Mixed):
        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.conv(x)).cumsum(2)
            return self.head(F.silu(self.pool(x)).flatten(1)).sort(1)[0]

    found = rb.preflight(Bad().eval(), torch.randn(1, 3, 8, 8))
    assert {fate.name: fate.fate for fate in found.fates if fate.fate == "refused"} == dict.fromkeys(
        ["cumsum", "silu", "getitem"], "refused"
    )


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "prelu": nn.PReLU(4, init=0.3),
    "elu": F.elu,
    "celu": lambda x: F.celu(x, 2.0),
    "selu": F.selu,
    "silu": nn.SiLU(),
    "gelu": nn.GELU(),
    "gelu_tanh": nn.GELU("tanh"),
    "mish": F.mish,
    "hardswish": nn.Hardswish(),
    "softplus": nn.Softplus(2.0),
    "sigmoid": lambda x: x.sigmoid(),
    "hardsigmoid": nn.Hardsigmoid(),
    "tanh": torch.tanh,
    "softsign": F.softsign,
    "hardtanh": nn.Hardtanh(),
    "clamp": lambda x: x.clamp(-0.5, 2.0),
    "clamp_max": lambda x: x.clamp_max(1.0),
    "abs": lambda x: x.abs(),
    "square": lambda x: x**2,
}


class Functional(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(64, 5)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        x = self.function(self.second(self.function(self.first(x))))
        return self.head(x.flatten(1))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_becomes_a_neuron_whose_limit_it_is(name):
    torch.manual_seed(1)
    ann, x = Functional(FUNCTIONS[name]).eval(), torch.randn(8, 3, 8, 8)
    assert len(rb.preflight(ann, x).of("refused")) == 2
    snn, report = rb.convert(ann, HALF, [x], on_unsupported="approximate")
    assert len(report.layers) == 2
    errors = falling(ann, snn, x)
    assert errors[-1] < 0.02
    assert errors[-1] < errors[0] / 8


def test_weights_behind_weights_read_real_numbers():
    ann = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2)).eval()
    assert fates(rb.preflight(ann, torch.rand(1, 4))) == {
        "0": "analogue",
        "1": "spiking",
        "2": "spiking",
        "3": "analogue",
    }
    _, report = rb.convert(ann, HALF, [torch.rand(8, 4)])
    assert "no neuron stands between" in dict(report.analogue)["3"]


def test_letters_of_both_signs_only_where_there_are_both():
    torch.manual_seed(1)
    x = torch.randn(8, 3, 8, 8)
    for function, signed in ((F.silu, True), (torch.tanh, True), (torch.sigmoid, False), (F.softplus, False)):
        snn, _ = rb.convert(Functional(function).eval(), rb.methods.burst(3), [x], on_unsupported="approximate")
        assert {neuron.alphabet.signed for _, neuron in snn.sites()} == {signed}


# Models that read and answer more than one tensor, or choose their way


class Pair(nn.Module):
    """Two inputs, of numbers and of tokens; two answers by name."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.words = nn.Linear(6, 8), nn.Embedding(10, 8)
        self.both, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, image: Tensor, words: Tensor) -> dict[str, Any]:
        seen = F.relu(self.image(image))
        read = F.relu(self.both(self.words(words).mean(1)))
        return {"classes": self.head(seen + read), "parts": (seen, read)}


def test_several_inputs_and_answers():
    torch.manual_seed(0)
    ann = Pair().eval()
    x = {"image": torch.randn(16, 6), "words": torch.randint(0, 10, (16, 5))}
    snn, _ = rb.convert(ann, HALF, [x])
    with torch.no_grad():
        answer = ann(**x)
        xs = {name: rb.constant(part, 512) for name, part in x.items()}
        ys, state = snn(xs)
        tupled, _ = snn((xs["image"], xs["words"]))
    assert ys.keys() == answer.keys()
    for y, a in ((ys["classes"], answer["classes"]), (ys["parts"][1], answer["parts"][1])):
        assert float((y[511] - a).abs().mean() / a.abs().mean()) < 0.02
    assert torch.equal(ys["classes"], tupled["classes"])
    assert state.total["parts"][0].shape == (16, 8)
    with pytest.raises(rb.InputError, match="expected 2: image, words"):
        snn(xs["image"])
    with pytest.raises(rb.InputError, match="whole numbers"):
        snn({"image": xs["image"], "words": xs["words"].float()})
    with pytest.raises(rb.InputError, match="answers its logits only"):
        rb.evaluate(snn, [(x, torch.zeros(16, dtype=torch.int64))], 4)


def test_several_inputs_are_saved_and_evaluated(tmp_path):
    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()

        def forward(self, image: Tensor, words: Tensor) -> Tensor:
            return self.pair(image, words)["classes"]

    torch.manual_seed(0)
    ann = Logits().eval()
    x = torch.randn(16, 6), torch.randint(0, 10, (16, 5))
    snn, _ = rb.convert(ann, HALF, [(x, torch.zeros(16))])
    rb.save(tmp_path / "snn.safetensors", snn)
    again = rb.load(tmp_path / "snn.safetensors")
    with torch.no_grad():
        labels = ann(*x).argmax(1)
        xs = tuple(rb.constant(part, 9) for part in x)
        assert torch.equal(snn(xs)[0], again(xs)[0])
    curve = rb.evaluate(again, [(x, labels)], 64, ann=ann)
    assert curve.ann_accuracy == 1
    assert curve.accuracy[-1] > 0.9


def test_attention_of_one_head_and_a_quotient_of_a_constant():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, tokens: Tensor, weights: Tensor) -> Tensor:
            x = F.relu(self.first(tokens))
            x = F.scaled_dot_product_attention(x, x, x)
            return self.head((x * (1.0 / (1.0 + F.relu(weights)))).mean(1))

    torch.manual_seed(0)
    ann, x = Odd().eval(), {"tokens": torch.randn(8, 5, 6), "weights": torch.randn(8, 5, 6)}
    snn, _ = rb.convert(ann, HALF, [x], on_unsupported="keep")
    with torch.no_grad():
        answer = ann(**x)
        ys, _ = snn({name: rb.constant(part, 256) for name, part in x.items()})
    assert float((ys[255] - answer).abs().mean() / answer.abs().mean()) < 0.02


def test_branches_on_shapes_go_through_export():
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 5)
            self.act, self.offset = nn.ReLU(inplace=True), nn.Parameter(torch.randn(1, 8, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            x = self.act(self.norm(self.conv(x)))
            while x.shape[-1] > 2:
                x = F.max_pool2d(x, 2)
            x += self.offset
            low, high = F.relu(x).chunk(2, 1)
            return self.head(torch.cat([high, low], 1).view(x.size(0), 8, -1).mean(-1))

    torch.manual_seed(0)
    ann, x = Branching().eval(), torch.randn(16, 3, 8, 8)
    snn, report = rb.convert(ann, HALF, [x])
    assert [layer.name for layer in report.layers] == ["act", "relu"]
    assert report.layers[0].source.startswith("test_preflight.py")
    assert falling(ann, snn, x)[-1] < 0.01
    assert falling(ann, snn, x[:5])[-1] < 0.01  # the batch is not fixed


def test_what_export_writes_reads_as_what_tracing_writes(monkeypatch):
    ann, x = mixed()
    traced = trace(ann, x)
    monkeypatch.setattr("rheobase.capture._Tracer", None)  # so that symbolic tracing fails
    assert capture(ann, x).root is not ann
    exported = trace(ann, x)
    assert [node.op for node in settled(exported).nodes] == [node.op for node in settled(traced).nodes]
    with torch.no_grad():
        torch.testing.assert_close(exported(x), traced(x))


def test_a_reader_that_is_wrong_is_caught(monkeypatch):
    from rheobase.readers import READERS

    ann, x = mixed()
    monkeypatch.setitem(READERS, F.silu, lambda call: (ops.Function("gelu"), {}, call.inputs))
    with pytest.raises(rb.ConversionError, match=r"(?s)'silu' at test_preflight.py:\d+.*computes something else"):
        trace(ann, x)


def test_recurrent_layers_are_refused_with_advice():
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            ys, _ = self.lstm(F.relu(x))
            return self.head(ys[:, -1])

    with pytest.raises(rb.ConversionError, match=r"(?s)a time of its own.*train a spiking network directly"):
        rb.convert(Recurrent().eval(), HALF, [torch.rand(4, 5, 4)])


def test_the_command_line_lists_the_fates(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets_to_check.py").write_text(
        "from torch import nn\ndef net(): return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))\n"
    )
    assert main(["preflight", "--model", "nets_to_check:net", "--shape", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert not found["ok"]
    assert [fate["fate"] for fate in found["fates"]] == ["analogue", "refused", "spiking"]
    assert main(["preflight", "--model", "nets_to_check:net", "--shape", "4", "--on-unsupported", "approximate"]) == 0
    assert "takes this network" in capsys.readouterr().out
