"""The fused stages: whole sums are exact, the neurons are those of the law, on every kernel and instruction set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from convolutions import CASES, NEURONS, NUMBERS, drawn, driven, fits, grouped, letters, whole
from rheobase import testing
from rheobase.kernels import convolution, cpu, stage
from rheobase.kernels.convolution import Convolution
from rheobase.kernels.engine import CPU
from rheobase.kernels.stage import Letters
from rheobase.kernels.term import Term, current, identity
from rheobase.membrane import Membrane, Tensors
from rheobase.neuron import Neuron, emissions, init
from rheobase.rounding import DIGITS, FINEST, LARGEST, rounded

built = pytest.mark.skipif(bool(cpu.MISSING), reason=cpu.MISSING)
BEST = "plain" if cpu.MISSING else cpu.instruction_set()


def packed(conv: Convolution) -> Iterator[Term]:
    """By every kernel that takes it."""
    for kernel in convolution.WHOLE.values():
        if not isinstance(term := kernel(conv), str):
            yield term


def fired(term: Term, x: Tensor, neuron: Neuron, t: Tensors, drive: Tensor) -> tuple[Tensor, Membrane]:
    """The stage with the signature of the law: letters `[T, N, C, H, W]` and the memory after them."""
    shape = tuple(drive.shape[2:])
    with testing.poisoned():
        found, m = stage.Prepared(CPU.stage, [term], neuron, t, shape).run([x], None, len(drive))
    return found.real(shape), m


@built
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", NEURONS)
def test_whole_weights_give_the_bits_of_the_law(case, name, instructions):
    channels, outputs, kernel, stride, pad, size, low, high = case
    torch.manual_seed(3)
    x = letters((2, 3, size, size, channels), low, high)
    made = rounded(torch.randn(outputs, channels, kernel, kernel) / 5, torch.randn(outputs), low, high)
    conv, drive = whole(made, stride, pad, low, high), driven(x, made.weight, made.bias, stride, pad)
    theta0 = torch.rand(outputs, 1, 1) + 0.5
    bias = torch.randn(2, outputs, 1, 1)
    t, neuron = Tensors(theta0, theta0 / 2, bias=bias), NEURONS[name]
    expected, m = emissions(neuron, t, drive)
    assert made.exact
    terms = list(packed(conv))
    assert len(terms) == 2 + ((low, high) == (0, 1) and channels in {4, 16})
    for term in terms:
        got, memory = fired(term, x, neuron, t, drive)
        assert torch.equal(got, expected.letters)
        assert torch.equal(memory.v, m.v)
        for ours, theirs in zip(memory.gate, m.gate, strict=True):
            assert torch.equal(ours, theirs)


@built
@pytest.mark.parametrize("case", CASES, ids=str)
def test_real_weights_on_dyadic_numbers_give_the_bits_of_the_law(case, instructions):
    channels, outputs, kernel, stride, pad, size, low, high = case
    torch.manual_seed(4)
    x = letters((2, 3, size, size, channels), low, high, 0.1)
    weight, bias = testing.dyadic(outputs, channels, kernel, kernel, seed=1), testing.dyadic(outputs, seed=2)
    conv = Convolution(weight, torch.ones(outputs), bias, (stride, stride), (pad, pad), (1, 1), low, high)
    term, drive = convolution.sparse(conv), driven(x, weight, bias, stride, pad)
    assert not isinstance(term, str)
    t = Tensors(torch.tensor(0.75), torch.tensor(0.375))
    (expected, _), m = emissions(Neuron(), t, drive)
    got, memory = fired(term, x, Neuron(), t, drive)
    assert torch.equal(got, expected)
    assert torch.equal(memory.v, m.v)


@built
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (0, 15), (-15, 15), (0, 127), (-63, 64)])
@pytest.mark.parametrize("sign", [1, -1])
def test_no_sum_overflows_where_every_letter_and_weight_is_the_largest(low, high, sign, instructions):
    weight = torch.full((17, 96, 3, 3), sign * LARGEST, dtype=torch.int8)
    weight[1, ::2] *= -1
    x = torch.full((1, 2, 5, 5, 96), high, dtype=torch.int8)
    x[:, 1] = low
    conv = Convolution(weight, torch.ones(17), torch.zeros(17), (1, 1), (1, 1), (1, 1), low, high)
    drive = driven(x, weight, torch.zeros(17), 1, 1)
    t = Tensors(torch.tensor(2.0**25), torch.tensor(0.0))
    _, m = emissions(Neuron(), t, drive)
    taken = list(packed(conv))
    assert taken
    for term in taken:
        assert torch.equal(fired(term, x, Neuron(), t, drive)[1].v, m.v)


@built
@pytest.mark.parametrize("flush", [2, 6, 64])
@pytest.mark.parametrize("ends", [(0, 1), (0, 5), (-2, 2)])
@pytest.mark.parametrize("stride", [1, 2])
def test_sums_are_carried_into_wider_ones_at_any_event(flush, ends, stride, instructions):
    """Carried in the middle of a column, at its end, with sums of several outputs on their way."""
    torch.manual_seed(6)
    x = letters((2, 2, 7, 7, 21), *ends)
    made = rounded(torch.randn(70, 21, 3, 3), torch.randn(70), *ends)
    conv = whole(made, stride, 1, *ends)
    term = convolution.sparse(conv)
    assert not isinstance(term, str)
    t = Tensors(torch.tensor(2.0**25), torch.tensor(0.0))
    drive = driven(x, made.weight, made.bias, stride, 1)
    _, m = emissions(Neuron(), t, drive)
    for own in (flush, term.geometry["flush"]):
        often = replace(term, geometry=term.geometry | {"flush": own})
        assert torch.equal(fired(often, x, Neuron(), t, drive)[1].v, m.v)


@built
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("columns", [1, 2, 3])
def test_columns_that_are_too_many_together_are_carried(columns, stride, instructions):
    """No column of letters overflows 16 bits, two of them do."""
    x = torch.zeros(1, 2, 5, 9, 60, dtype=torch.int8)
    x[:, :, :, 3 : 3 + columns] = 1
    weight = torch.full((33, 60, 3, 3), LARGEST, dtype=torch.int8)
    conv = Convolution(weight, torch.ones(33), torch.zeros(33), (stride, stride), (1, 1), (1, 1), 0, 1)
    term = convolution.sparse(conv)
    assert not isinstance(term, str)
    assert 3 * 60 <= term.geometry["flush"] < 2 * 3 * 60
    t, drive = Tensors(torch.tensor(2.0**25), torch.tensor(0.0)), driven(x, weight, torch.zeros(33), stride, 1)
    _, m = emissions(Neuron(), t, drive)
    assert torch.equal(fired(term, x, Neuron(), t, drive)[1].v, m.v)


@given(st.lists(st.integers(-127, 127), min_size=1, max_size=600), st.sampled_from([(0, 1), (0, 15), (-3, 3)]))
def test_as_many_events_are_summed_as_no_choice_of_them_overflows(weights, ends):
    """Of an output the largest products first, upwards and downwards: one event more could overflow, or two."""
    found = convolution._events(torch.tensor([weights], dtype=torch.int8), *ends)
    reach = [sorted((max(s * w * a for a in ends) for w in weights), reverse=True) for s in (1, -1)]
    worst = [sum(max(0, a) for a in part[:found]) for part in reach]
    assert max(worst) <= convolution.SUM
    if found != convolution.NEVER:
        assert found % 2 == 0
        assert max(sum(max(0, a) for a in part[: found + 2]) for part in reach) > convolution.SUM


@built
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("channels", "kernel", "stride"), [(256, 1, 1), (28, 3, 1), (20, 3, 2), (8, 4, 3), (4, 7, 1)])
def test_four_letters_at_a_time(channels, kernel, stride, sign, instructions):
    """As many of the largest weights as fit, every letter 1, then some, then none."""
    weight = torch.full((17, channels, kernel, kernel), sign * LARGEST, dtype=torch.int8)
    weight[1, ::2] *= -1
    weight[2:] = torch.randint(-LARGEST, LARGEST + 1, weight[2:].shape)
    x = torch.stack([torch.ones(2, 9, 9, channels), torch.rand(2, 9, 9, channels).round()]).to(torch.int8)
    x[1, 1] = 0
    conv = Convolution(weight, torch.ones(17), torch.zeros(17), (stride, stride), (1, 1), (1, 1), 0, 1)
    term, drive = convolution.lookup(conv), driven(x, weight, torch.zeros(17), stride, 1)
    assert not isinstance(term, str)
    t = Tensors(torch.tensor(2.0**25), torch.tensor(0.0))
    assert torch.equal(fired(term, x, Neuron(), t, drive)[1].v, emissions(Neuron(), t, drive)[1].v)


def test_what_no_four_letters_are():
    def asked(channels: int, high: int = 1, kernel: int = 3) -> Term | str:
        weight = torch.ones(8, channels, kernel, kernel, dtype=torch.int8)
        return convolution.lookup(Convolution(weight, torch.ones(8), torch.zeros(8), (1, 1), (1, 1), (1, 1), 0, high))

    assert isinstance(asked(28), Term)
    assert asked(6) == "6 channels are no groups of four"
    assert asked(28, 3) == "its letters are from 0 to 3, not 0 and 1"
    assert asked(32) == "its tables of 36 KiB do not fit into the first cache"
    assert asked(4, kernel=8) == "a kernel 8 wide has more sums than registers"


@built
def test_the_oracle_of_overflow_can_fail(monkeypatch):
    """Without the proof sums of 16 bits do wrap, and the test above would see it."""
    if BEST.endswith("VNNI"):
        pytest.skip("VNNI sums in 32 bits")
    monkeypatch.setattr(convolution, "SUM", 2**40)
    weight, x = torch.full((16, 96, 3, 3), LARGEST, dtype=torch.int8), torch.full((1, 1, 5, 5, 96), 15).to(torch.int8)
    conv = Convolution(weight, torch.ones(16), torch.zeros(16), (1, 1), (1, 1), (1, 1), 0, 15)
    drive = driven(x, weight, torch.zeros(16), 1, 1)
    t = Tensors(torch.tensor(2.0**25), torch.tensor(0.0))
    for term in packed(conv):
        assert not torch.equal(fired(term, x, Neuron(), t, drive)[1].v, emissions(Neuron(), t, drive)[1].v)


EACH_SET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@built
@EACH_SET
@given(n=st.fixed_dictionaries(NUMBERS), each=st.booleans())
def test_groups_give_the_bits_of_the_law(n, each, instructions):
    """Grouped and depthwise (`each`: up to 80 channels, with columns dilated too), whole weights, any rim."""
    x, conv, drive = drawn(n, each)
    theta0 = torch.rand(drive.shape[2], 1, 1) + 0.5
    t = Tensors(theta0, theta0 / 2)
    (expected, _), m = emissions(Neuron(), t, drive)
    taken = list(packed(conv))
    assert len(taken) >= (conv.depthwise or n["dilation"][1] == 1)
    assert not conv.depthwise or len(taken) == 1
    for term in taken:
        got, memory = fired(term, x, Neuron(), t, drive)
        assert torch.equal(got, expected)
        assert torch.equal(memory.v, m.v)


@built
@EACH_SET
@given(n=st.fixed_dictionaries(NUMBERS), each=st.booleans())
def test_groups_with_real_weights_on_dyadic_numbers_give_the_bits_of_the_law(n, each, instructions):
    if each:
        n |= {"groups": n["outputs"] * 2, "channels": 1, "outputs": 1}
    assume(fits(n))
    torch.manual_seed(n["seed"])
    channels, outputs = n["groups"] * n["channels"], n["groups"] * n["outputs"]
    low, high = n["ends"]
    x = letters((2, 2, *n["size"], channels), low, high, 0.2)
    weight = testing.dyadic(outputs, n["channels"], *n["kernel"], seed=n["seed"])
    conv, drive = grouped(weight, torch.ones(outputs), testing.dyadic(outputs, seed=1), x, n)
    t = Tensors(torch.tensor(0.75), torch.tensor(0.375))
    (expected, _), m = emissions(Neuron(), t, drive)
    term = convolution.depthwise(conv) if conv.depthwise else convolution.sparse(conv)
    assert isinstance(term, str) == (n["dilation"][1] != 1 and not conv.depthwise)
    if not isinstance(term, str):
        got, memory = fired(term, x, Neuron(), t, drive)
        assert torch.equal(got, expected)
        assert torch.equal(memory.v, m.v)


@built
@pytest.mark.parametrize("groups", [2, 4, 70])
def test_the_oracle_of_groups_can_fail(groups):
    """Where each group reads its neighbour, or the rim lies on the other side, the tests above would see it."""
    torch.manual_seed(0)
    n = {"groups": groups, "stride": (1, 1), "padding": (1, 1), "beyond": (1, 1), "dilation": (1, 1), "ends": (-3, 3)}
    each = 1 if groups == 70 else 6
    x = letters((1, 2, 5, 5, groups * each), -3, 3)
    made = rounded(torch.randn(groups * each, each, 3, 3), None, -3, 3)
    conv, drive = grouped(made.whole, made.scale, made.bias, x, n)
    t = Tensors(torch.tensor(1.0), torch.tensor(0.5))
    _, m = emissions(Neuron(), t, drive)
    for term in packed(conv):
        assert torch.equal(fired(term, x, Neuron(), t, drive)[1].v, m.v)
        for wrong in (x.roll(each, 4), x.roll(1, 2), x.roll(1, 3)):
            assert not torch.equal(fired(term, wrong, Neuron(), t, drive)[1].v, m.v)


@built
@pytest.mark.parametrize("proved", [True, False])
def test_depthwise_sums_overflow_only_without_the_proof(proved, instructions, monkeypatch):
    """Every letter and weight the largest, 25 of them: 16 bits do not hold their sum."""
    weight, x = torch.full((70, 1, 5, 5), LARGEST, dtype=torch.int8), torch.full((1, 1, 6, 6, 70), 127).to(torch.int8)
    weight[1], weight[2, :, ::2] = -LARGEST, -LARGEST
    n = {"groups": 70, "stride": (1, 1), "padding": (2, 2), "beyond": (0, 0), "dilation": (1, 1), "ends": (-127, 127)}
    conv, drive = grouped(weight, torch.ones(70), torch.zeros(70), x, n)
    if not proved:
        monkeypatch.setattr(convolution, "SUM", 2**40)
    t = Tensors(torch.tensor(2.0**25), torch.tensor(0.0))
    (term,) = packed(conv)
    assert torch.equal(fired(term, x, Neuron(), t, drive)[1].v, emissions(Neuron(), t, drive)[1].v) == proved


@built
@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_several_drives_add_up_in_order(shift, stride, instructions):
    """A convolution, a shortcut and a current, with bits of the sum from left to right."""
    torch.manual_seed(5)
    x, size = letters((2, 3, 7, 7, 12), -1, 1), 7 if stride == 1 else 4
    made, scale = rounded(torch.randn(18, 12, 3, 3), torch.randn(18), -1, 1), torch.rand(18)
    given = torch.randn(3, 2, size, size, 18)
    term = convolution.dense(whole(made, stride, 1, -1, 1))
    assert not isinstance(term, str)
    shortcut = F.pad(x.float().permute(1, 0, 4, 2, 3)[..., ::stride, ::stride], (0, 0, 0, 0, shift, 6 - shift))
    drive = driven(x, made.weight, made.bias, stride, 1) + scale[:, None, None] * shortcut
    drive = drive + given.permute(0, 1, 4, 2, 3)
    t = Tensors(torch.tensor(1.0), torch.tensor(0.5))
    (expected, _), m = emissions(Neuron(), t, drive)
    every = [term, identity(scale, shift, stride), current()]
    start = init(Neuron(), t, drive[0])
    got, memory = stage.Prepared(CPU.stage, every, Neuron(), t, (18, size, size)).run([x, x, given], start, 3)
    assert torch.equal(got.real((18, size, size)), expected)
    assert torch.equal(memory.v, m.v)
    assert torch.equal(start.v, init(Neuron(), t, drive[0]).v)  # the caller keeps its memory


@given(outputs=st.integers(1, 5), width=st.integers(1, 200), low=st.sampled_from([0, -1, -15]), seed=st.integers(0, 99))
def test_rounded_weights(outputs, width, low, seed):
    """Short scales, an error not above that of the plain scale, and sums that do not round in any order."""
    made_of = torch.Generator().manual_seed(seed)
    weight, bias = (torch.randn(*shape, generator=made_of) for shape in ((outputs, width), (outputs,)))
    made = rounded(weight, bias, low, 15)
    assert bool((torch.frexp(made.scale).mantissa * 2**DIGITS % 1 == 0).all())
    assert bool((made.whole.abs() <= LARGEST).all())
    least = torch.maximum(weight.abs().amax(1) / LARGEST, FINEST * bias.abs())
    coarse = torch.exp2(torch.ceil(torch.log2(least)))[:, None]  # a scale that was tried
    assert float((made.weight - weight).norm()) <= float((torch.round(weight / coarse) * coarse - weight).norm()) + 1e-7
    assert made.error == pytest.approx(float((made.weight - weight).norm() / weight.norm()), rel=1e-4, abs=1e-7)
    assert made.exact
    x = torch.randint(low, 16, (width,), generator=made_of).float()
    total = made.bias.clone()
    for k in torch.randperm(width, generator=made_of):
        total = total + made.weight[:, k] * x[k]
    assert torch.equal(total.double(), made.weight.double() @ x.double() + made.bias.double())


@given(small=st.integers(-40, 0), seed=st.integers(0, 99))
def test_weights_that_are_nothing_beside_their_bias_are_exact(small, seed):
    """Those of a dead channel: no scale so fine that the bias has no room, and no error that counts beside it."""
    made_of = torch.Generator().manual_seed(seed)
    weight, bias = torch.randn(4, 9, generator=made_of) * 2.0**small, torch.randn(4, generator=made_of)
    made = rounded(weight, bias, -15, 15)
    assert made.exact
    off = (made.weight - weight).abs().sum(1) * 15 + (made.bias - bias).abs()
    assert bool((off <= 0.01 * (bias.abs() + weight.abs().sum(1) * 15)).all())


def test_a_weight_of_nothing_and_one_too_wide_to_be_exact():
    made = rounded(torch.zeros(2, 3), None, 0, 1)
    assert made.weight.abs().sum() == made.error == 0
    assert not rounded(torch.ones(1, 100_000), None, -15, 15).exact


def test_letters_and_floats_are_the_same():
    xs = torch.randint(-3, 4, (4, 2, 5, 6, 7)) / 4
    found = Letters.of(xs, 0.25)
    assert found.data.shape == (2, 4, 6, 7, 5)
    assert torch.equal(found.real((5, 6, 7)), xs)
    flat = xs[..., 0, 0]
    assert torch.equal(Letters.of(flat, 0.25).real((5,)), flat)
