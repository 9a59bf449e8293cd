"""Stages of Triton give the bits of the law; without a GPU, TRITON_INTERPRET=1 pytest tests/test_triton_stages.py."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

import random_nets
import rheobase as rb
from convolutions import CASES, NEURONS, NUMBERS, drawn, driven, grouped, letters, whole
from rheobase import Neuron, kernels, ops
from rheobase.compile import CompiledNet
from rheobase.graph import Node
from rheobase.kernels import stage, tiles
from rheobase.kernels import triton as kernel
from rheobase.kernels.engine import CPU, GPU, engine
from rheobase.kernels.law import law
from rheobase.kernels.room import Room
from rheobase.kernels.term import Term, current, identity
from rheobase.membrane import Membrane, Tensors
from rheobase.neuron import emissions, init
from rheobase.rounding import LARGEST, rounded
from rheobase.spelling import Spelling
from rheobase.stages import Pool, Run, Values
from staged import METHODS, NETS, SHAPE, converted, plain, same_state

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
here = pytest.mark.skipif(bool(kernel.MISSING) or not (INTERPRETED or DEVICE == "cuda"), reason="no Triton, or no GPU")


def on(term: Term) -> Term:
    return replace(term, **{name: getattr(term, name).to(DEVICE) for name in ("weights", "scale", "bias")})


def compiled(net: rb.SpikingNet, x: Tensor, precision: str = "int8") -> CompiledNet:
    with kernels.use("triton"):
        return rb.compile(net, x, precision, steps=1)


def fired(
    terms: list[Term],
    reads: list[Tensor],
    neuron: Neuron,
    t: Tensors,
    shape: tuple[int, ...],
    m: Membrane | None = None,
) -> tuple[Tensor, Membrane]:
    """Letters `[T, N, C, H, W]` and the memory after them."""
    t = Tensors(*(None if part is None else part.to(DEVICE) for part in t))  # type: ignore[arg-type]
    prepared = stage.Prepared(GPU.stage, [on(term) for term in terms], neuron, t, shape)
    steps = reads[0].shape[terms[0].kind != current().kind]
    found, after = prepared.run([read.to(DEVICE) for read in reads], m, steps)
    return found.real(shape).cpu(), after._replace(v=after.v.cpu(), gate=tuple(part.cpu() for part in after.gate))


@here
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", NEURONS)
def test_whole_weights_give_the_bits_of_the_law(case, name):
    channels, outputs, kernel, stride, pad, size, low, high = case
    torch.manual_seed(3)
    x = letters((2, 3, size, size, channels), low, high)
    made = rounded(torch.randn(outputs, channels, kernel, kernel) / 5, torch.randn(outputs), low, high)
    conv, drive = whole(made, stride, pad, low, high), driven(x, made.weight, made.bias, stride, pad)
    theta0 = torch.rand(outputs, 1, 1) + 0.5
    t, neuron = Tensors(theta0, theta0 / 2, bias=torch.randn(2, outputs, 1, 1)), NEURONS[name]
    (expected, _), m = emissions(neuron, t, drive)
    got, memory = fired([tiles.tiles(conv)], [x], neuron, t, tuple(drive.shape[2:]))
    assert torch.equal(got, expected)
    assert torch.equal(memory.v, m.v)
    for ours, theirs in zip(memory.gate, m.gate, strict=True):
        assert torch.equal(ours, theirs)


@here
@settings(max_examples=40)
@given(n=st.fixed_dictionaries(NUMBERS), each=st.booleans())
def test_groups_give_the_bits_of_the_law(n, each):
    """Grouped and depthwise (`each`: up to 80 channels), dilated, any rim, tiles that begin inside a group."""
    x, conv, drive = drawn(n, each)
    theta0 = torch.rand(drive.shape[2:]) + 0.5  # of every neuron
    t = Tensors(theta0, theta0 / 2)
    (expected, _), m = emissions(Neuron(), t, drive)
    got, memory = fired([tiles.tiles(conv)], [x], Neuron(), t, tuple(drive.shape[2:]))
    assert torch.equal(got, expected)
    assert torch.equal(memory.v, m.v)
    for wrong in (x.roll(1, 2), x.roll(1, 3), x.roll(1, 4)):
        if not torch.equal(wrong, x) and not torch.equal(
            grouped(conv.weight, conv.scale, conv.bias, wrong, n)[1], drive
        ):
            assert not torch.equal(fired([tiles.tiles(conv)], [wrong], Neuron(), t, tuple(drive.shape[2:]))[1].v, m.v)


@here
@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("still", [True, False])
def test_several_drives_add_up_in_order(shift, stride, still):
    """Two convolutions, a shortcut and a current, with bits of the sum from left to right; in pieces."""
    torch.manual_seed(5)
    x, size = letters((2, 3, 7, 7, 12), -1, 1), 7 if stride == 1 else 4
    made, again = (rounded(torch.randn(18, 12, k, k), torch.randn(18), -1, 1) for k in (3, 1))
    scale, given = torch.rand(18), torch.randn(3, 2, size, size, 18)
    given = given[:1].expand_as(given) if still else given
    shortcut = F.pad(x.float().permute(1, 0, 4, 2, 3)[..., ::stride, ::stride], (0, 0, 0, 0, shift, 6 - shift))
    drive = driven(x, made.weight, made.bias, stride, 1) + driven(x, again.weight, again.bias, stride, 0)
    drive = drive + scale[:, None, None] * shortcut + given.permute(0, 1, 4, 2, 3)
    leak = rb.LearnedDecay(2.0)
    neuron = Neuron(alphabet=rb.signed(2), leak=leak, reset=rb.ToValue(0.25), threshold=rb.Fixed(0.5))
    t = Tensors(torch.tensor(1.0), torch.tensor(0.5), bias=torch.randn(2, 18, 1, 1), leak=torch.tensor(0.3))
    (expected, _), m = emissions(neuron, t, drive)
    convs = [tiles.tiles(whole(w, stride, pad, -1, 1)) for w, pad in ((made, 1), (again, 0))]
    terms, shape = [*convs, identity(scale, shift, stride), current()], (18, size, size)
    start = init(neuron, t, drive[0])
    got, memory = fired(terms, [x, x, x, given], neuron, t, shape, start)
    assert torch.equal(got, expected)
    assert torch.equal(memory.v, m.v)
    assert torch.equal(start.v, init(neuron, t, drive[0]).v)  # the caller keeps its memory
    one, between = fired(terms, [*(x[:, :1].contiguous() for _ in range(3)), given[:1]], neuron, t, shape)
    two, end = fired(terms, [*(x[:, 1:].contiguous() for _ in range(3)), given[1:]], neuron, t, shape, between)
    assert torch.equal(torch.cat([one, two]), expected)
    assert torch.equal(end.v, m.v)


@here
def test_no_sum_overflows_where_every_letter_and_weight_is_the_largest():
    weight = torch.full((17, 96, 3, 3), LARGEST, dtype=torch.int8)
    weight[1, ::2] *= -1
    x = torch.full((1, 2, 5, 5, 96), 127, dtype=torch.int8)
    x[:, 1] = -127
    scale, none = torch.ones(17), torch.zeros(17)
    made = rounded(weight.float(), none, -127, 127)._replace(whole=weight, scale=scale, bias=none)
    drive, t = driven(x, weight, none, 1, 1), Tensors(torch.tensor(2.0**25), torch.tensor(0.0))
    _, memory = fired([tiles.tiles(whole(made, 1, 1, -127, 127))], [x], Neuron(), t, (17, 5, 5))
    assert torch.equal(memory.v, emissions(Neuron(), t, drive)[1].v)


@here
@settings(max_examples=30)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padded=st.booleans(),
    dilation=st.integers(1, 2),
    channels=st.sampled_from([1, 16, 55]),
    seed=st.integers(0, 99),
)
def test_pools_of_letters(kernel, stride, padded, dilation, channels, seed):
    padding = tuple(k // 2 for k in kernel) if padded else (0, 0)
    dilated = (1, 1) if padded else (dilation, dilation)
    xs = torch.randint(-9, 10, (3, 2, channels, 8, 9), generator=torch.Generator().manual_seed(seed)).float() - 5
    largest = ops.MaxPool(kernel=kernel, stride=stride, padding=padding, dilation=dilated)
    for op in (largest, ops.AvgPool(kernel=kernel, stride=stride, padding=(0, 0))):
        ys = op({}, xs.flatten(0, 1))
        shape = tuple(ys.shape[1:])
        values = Values({"x": tuple(xs.shape[2:]), "y": shape}, {"x": Spelling(1.0, -14, 4)})
        values.put("x", xs.to(DEVICE))
        node = Node(name="y", op=op, inputs=("x",), shape=shape)
        Pool(node, GPU).run(Run(None, values, 0, 3, 2, {}, {}, None, Room()))  # type: ignore[arg-type]
        found = values.real("y").flatten(0, 1).cpu()
        assert torch.equal(found, ys) if op is largest else torch.allclose(found, ys, rtol=1e-6)


FIXED = sorted(set(METHODS) - {"dtif, not graded"})


@here
@pytest.mark.parametrize(("name", "method"), [*((name, "binary") for name in NETS), *(("residual", m) for m in FIXED)])
def test_int8_is_the_network_with_rounded_weights_bit_for_bit(name, method):
    net, x = converted(name, METHODS[method])
    net, x = net.to(DEVICE), x.to(DEVICE)
    fast = compiled(net, x[:2])
    layers = fast.explain()
    assert any("tiles" in layer.kernel for layer in layers)
    assert all(layer.exact for layer in layers)
    expected, other = fast.net(rb.constant(x[:2], 3))
    ys, state = fast(rb.constant(x[:2], 3))
    assert torch.equal(ys, expected)
    same_state(state, other)
    one, between = fast(rb.constant(x[:2], 1))
    two, after = fast.net(rb.constant(x[:2], 2), between)
    assert torch.equal(torch.cat([one, two]), expected)
    same_state(after, other)
    with kernels.use("cpu"), pytest.raises(rb.KernelError, match="has its own"):
        fast(rb.constant(x[:2], 1))


@here
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_other_precisions_run_neurons_in_stages(precision):
    net, x = converted("residual", METHODS["letters"])
    net, x = net.to(DEVICE), x.to(DEVICE)
    fast = compiled(net, x[:2], precision)
    kinds = {layer.name: layer.kernel for layer in fast.explain()}
    assert any(kind.startswith("given") for kind in kinds.values())
    assert ("narrow" in kinds.values()) == (precision == "bf16")
    with torch.no_grad():
        ys, expected = fast(rb.constant(x[:2], 3))[0], fast.net(rb.constant(x[:2], 3))[0]
    assert float((ys - expected).abs().median()) < 0.05 * float(expected.abs().max())


@here
@pytest.mark.parametrize("seed", range(8))
def test_networks_at_random(seed):
    """Those of `random_nets`, as on the CPU: bit for bit up to the first layer that is not called exact."""
    ann, x = random_nets.made(seed, samples=2)
    snn, _ = rb.convert(ann, METHODS["ternary"], [x])
    snn, x = snn.to(DEVICE), x.to(DEVICE)
    fast = compiled(snn, x)
    seen: list[dict[str, Tensor]] = [{}, {}]
    for net, found in zip((fast, fast.net), seen, strict=True):
        net.run(rb.constant(x, 3), None, lambda visit, found=found: found.update({visit.node.name: visit.ys}))
    for layer in fast.explain():
        if not layer.exact:
            break
        assert torch.equal(seen[0][layer.name], seen[1][layer.name]), layer


def test_who_is_asked_compiles_and_what_it_does_not_take_is_named():
    assert engine() is CPU
    with kernels.use("triton"):
        assert engine() is GPU
    t = Tensors(torch.tensor(1.0), torch.tensor(0.5))
    if kernel.MISSING:
        assert "pip install" in GPU.declines(Neuron(), t)
        return
    assert "on a GPU, not torch.float32 on cpu" in GPU.declines(Neuron(), t)
    assert "MSAT" in GPU.declines(Neuron(threshold=rb.MSAT()), t)
    assert "gate" in GPU.declines(Neuron(gate=rb.SpikeConfidence()), t)
    if not INTERPRETED:
        net, x = converted("layers", METHODS["binary"])
        with kernels.use("triton"), pytest.raises(rb.KernelError, match="on a GPU"):
            rb.compile(net, x)


@here
def test_a_threshold_that_moves_is_refused_by_name():
    net, _ = rb.convert(plain("8C3-8C3")().eval(), rb.methods.msat(), [torch.randn(4, *SHAPE)])
    with kernels.use("triton"), pytest.raises(rb.KernelError, match="MSAT"):
        rb.compile(net.to(DEVICE), torch.randn(2, *SHAPE).to(DEVICE))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None or INTERPRETED, reason="needs Triton, not its interpreter")
@pytest.mark.parametrize("name", NEURONS)
def test_the_programs_compile_for_a_gpu_that_is_not_here(name):
    """To a binary of compute capability 9.0: products of bytes on tensor cores, no fused multiplications."""
    triton, backends = pytest.importorskip("triton"), pytest.importorskip("triton.backends.compiler")
    gpu: Any = pytest.importorskip("rheobase.kernels.gpu_stages")
    neuron = NEURONS[name]
    *_, known = tiles._law(*(tuple(n) if isinstance(n, list) else n for n in law(neuron)))
    known = dict(known)  # it is kept for the next run
    options = {"enable_fp_fusion": known.pop("enable_fp_fusion")}
    conv = (tiles.TILES, 8, 8, 64, 3, 3, 1, 1, 1, 1, 1, 1, 96, 64, 64, 64)
    terms = conv, (tiles.IDENTITY, 8, 8, 64, 1, 16), (tiles.CURRENT, 1)
    known |= {
        "TERMS": terms,
        "HEIGHT": 8,
        "WIDTH": 8,
        "CHANNELS": 96,
        "BORN": True,
        "GATED": bool(neuron.gate.born(torch.ones(1))),
    }
    known |= tiles.KINDS | {"PLACES": tiles.PLACES, "OUTPUTS": 64}
    kinds: dict[str, Any] = dict.fromkeys(("samples", "steps", "corrected", "shared", "started"), "i32")
    kinds |= dict.fromkeys(("gain", "per_letter", "leak", "rest", "value"), "fp32") | dict.fromkeys(known, "constexpr")
    kinds |= {"reads": ("*i8", "*i8", "*fp32"), "weights": ("*i8", "*fp32", "*fp32"), "letters": "*i8"}
    kinds |= dict.fromkeys(("scales", "biases"), ("*fp32", "*fp32", "*fp32"))
    built = [(gpu.stage, known, kinds)]
    sizes = {"HEIGHT": 8, "WIDTH": 8, "CHANNELS": 96, "OUT_H": 4, "OUT_W": 4, "LARGEST": True, "BLOCK": tiles.BLOCK}
    sizes |= {f"{what}_{axis}": 1 for what in ("KERNEL", "STRIDE", "PAD", "DILATION") for axis in "HW"}
    kinds = dict.fromkeys(sizes, "constexpr") | {"letters": "*i8", "pooled": "*i8", "count": "i32"}
    for program, constants, signature in (*built, (gpu.pool, sizes, kinds)):
        signature = {name: signature.get(name, "*fp32") for name in program.arg_names}
        given = {(program.arg_names.index(name),): value for name, value in constants.items()}
        source = triton.compiler.ASTSource(fn=program, signature=signature, constexprs=given)
        made = triton.compile(source, target=backends.GPUTarget("cuda", 90, 32), options=options)
        assert len(made.asm["cubin"]) > 0
        assert "fma.rn.f32" not in made.asm["ptx"]
        assert ("wgmma" in made.asm["ptx"]) == (program is gpu.stage)
