"""A kernel that is asked for by name runs or says why it does not; what torch.compile makes of the law is the law."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import rheobase as rb
from rheobase import Leak, LearnedDecay, Neuron, Tensors, ToValue, kernels
from rheobase.kernels import compiled, cpu, events, named
from rheobase.recompute import run
from rheobase.testing import carries_memory, dyadic


def tensors(theta0: float = 0.75) -> Tensors:
    return Tensors(torch.tensor(theta0), torch.tensor(0.25))


def small() -> rb.SpikingNet:
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(2, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3), torch.nn.ReLU()
    ann = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(16, 3)).eval()
    return rb.convert(ann, rb.methods.opi(), [torch.rand(8, 2, 6, 6)])[0]


def test_use_holds_in_its_block_and_nests():
    free = kernels.choose(Neuron()).name
    with kernels.use("reference"):
        assert kernels.choose(Neuron()).name == "reference"
        with kernels.use("compiled"):
            assert kernels.choose(Neuron()).name == "compiled"
        assert kernels.choose(Neuron()).name == "reference"
        assert kernels.in_use() == "reference"
    with pytest.raises(rb.InputError), kernels.use("reference"):
        run(Neuron(), tensors(), torch.zeros(3), None)
    assert kernels.choose(Neuron()).name == free


def test_an_unknown_kernel_is_refused_at_once(monkeypatch):
    with pytest.raises(rb.SpecError, match="did you mean 'reference'"), kernels.use("referense"):
        pass
    monkeypatch.setenv("RHEOBASE_KERNEL", "gpu")
    with pytest.raises(rb.SpecError, match="unknown kernel 'gpu'"):
        kernels.choose(Neuron())


def test_the_environment_asks_for_a_process():
    code = "import rheobase as rb; print(rb.kernels.choose(rb.Neuron()).name, rb.kernels.in_use())"
    env = {"RHEOBASE_KERNEL": "reference", "PYTHONPATH": ":".join(sys.path)}
    assert subprocess.check_output([sys.executable, "-c", code], env=env, text=True).split() == ["reference"] * 2


@pytest.mark.parametrize("name", ["cpu", "compiled"])
def test_a_kernel_that_was_asked_for_and_declines_is_an_error(name, monkeypatch):
    for kernel in (cpu, compiled):
        monkeypatch.setattr(kernel, "MISSING", "there is none here")
    net = small()
    with torch.inference_mode():
        net(rb.constant(torch.rand(2, 2, 6, 6), 3))  # a free choice falls back
        with kernels.use(name):
            for ask in (lambda: net(rb.constant(torch.rand(2, 2, 6, 6), 3)), lambda: kernels.explain(net)):
                with pytest.raises(rb.KernelError, match=f"{name}' was asked for(.|\n)*there is none here"):
                    ask()


def test_nothing_is_compiled_by_itself(monkeypatch):
    def never(*given: object) -> None:
        raise AssertionError("compiled without being asked")

    monkeypatch.setattr(compiled, "compiled", never)
    monkeypatch.setattr(cpu, "MISSING", "not built")
    xs = dyadic(3, 2, 5).requires_grad_(True)
    run(Neuron(surrogate=rb.ATan()), tensors(), xs, None)
    assert kernels.choose(Neuron()).name == "reference"


@pytest.mark.skipif(bool(cpu.MISSING), reason=cpu.MISSING)
def test_events_are_convolved_by_the_reference_too():
    x, weight = torch.rand(1, 2, 5, 5), torch.rand(3, 2, 3, 3)
    assert events.convolves(x, weight, None, (1, 1), (1, 1), 1)
    with kernels.use("cpu"):
        assert events.convolves(x, weight, None, (1, 1), (1, 1), 1)
    with kernels.use("reference"):
        assert not events.convolves(x, weight, None, (1, 1), (1, 1), 1)


# torch.compile


def gradients(kernel: str, neuron: Neuron, xs: Tensor) -> list[Tensor]:
    """Letters, potential and the gradients by drives, threshold, start and leak."""
    start = neuron.leak.learned
    held = [xs, torch.tensor(0.75), torch.tensor(0.25), *([] if start is None else [torch.tensor(start)])]
    held = [t.clone().requires_grad_(True) for t in held]
    with kernels.use(kernel):
        t = Tensors(held[1], held[2], leak=held[3] if start is not None else None)
        (letters, worth), m = run(neuron, t, held[0], None)
    loss = (letters * worth * dyadic(*xs.shape, seed=8)).sum() + m.v.square().sum()
    return [letters.detach(), m.v.detach(), *torch.autograd.grad(loss, held)]


def same(neuron: Neuron, xs: Tensor) -> None:
    ours, theirs = (gradients(kernel, neuron, xs) for kernel in ("compiled", "reference"))
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])
    for a, b in zip(ours[2:], theirs[2:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.fixture
def graphs(monkeypatch) -> Iterator[list[torch.fx.GraphModule]]:
    """What torch.compile takes up, run without its code generator, which takes seconds a neuron: the slow tests do."""
    found = []

    def backend(graph: torch.fx.GraphModule, example: object) -> torch.fx.GraphModule:
        found.append(graph)
        return graph

    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda law, **options: whole(law, backend=backend, **options))
    compiled.compiled.cache_clear()
    yield found
    compiled.compiled.cache_clear()


def test_the_law_captured_whole_is_the_law(graphs):
    neuron = Neuron(alphabet=rb.burst(2), leak=Leak(0.5))
    for steps, batch in ((3, 2), (3, 2), (2, 2)):
        xs = dyadic(steps, batch, 7, seed=1)
        with kernels.use("compiled"):
            (letters, _), m = run(neuron, tensors(), xs, None)
        (expected, _), n = rb.neuron.emissions(neuron, tensors(), xs)
        assert torch.equal(letters, expected)
        assert torch.equal(m.v, n.v)
    assert len(graphs) == 2  # one for each number of steps


def test_a_warm_network_compiles_nothing_more_whatever_the_batch(graphs):
    net, x = small(), torch.rand(7, 2, 6, 6)
    kernels.warm(net, x[:4], steps=3)
    before = len(graphs)
    assert before >= 2  # its layers are of different sizes
    with kernels.use("compiled"), torch.inference_mode():
        for some in (x, x[:2]):
            ys, _ = net(rb.constant(some, 3))
            with kernels.use("reference"):
                torch.testing.assert_close(ys, net(rb.constant(some, 3))[0])
        assert len(graphs) == before
        net(rb.constant(x, 2))
    assert len(graphs) > before


def test_what_cannot_be_compiled_says_so(monkeypatch):
    def broken(law: object, **options: object) -> object:
        def fails(*given: object) -> object:
            raise RuntimeError("\nno C++ compiler found\nmore")

        return fails

    monkeypatch.setattr(torch, "compile", broken)
    compiled.compiled.cache_clear()
    with kernels.use("compiled"), pytest.raises(rb.KernelError, match="no C\\+\\+ compiler found"):
        run(Neuron(), tensors(), dyadic(2, 1, 4), None)
    compiled.compiled.cache_clear()


COMPILED = {
    "binary": Neuron(surrogate=rb.ATan()),
    "burst, PLIF": Neuron(alphabet=rb.burst(3), leak=LearnedDecay(2.0), surrogate=rb.Rectangular()),
    "hard": Neuron(reset=ToValue(0.25), surrogate=rb.Sigmoid(), leak=Leak(0.5)),
    "cascade": Neuron(alphabet=rb.cascade(3, "binary"), surrogate=rb.Polynomial()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_the_compiled_neuron_and_its_gradient_are_those_of_the_law(name):
    same(COMPILED[name], dyadic(3, 2, 40, seed=3))
    same(COMPILED[name], dyadic(3, 5, 40, seed=4))


@pytest.mark.slow
def test_a_compiled_net_is_the_net_and_carries_memory():
    net, xs = small(), rb.constant(torch.rand(3, 2, 6, 6), 4)
    with torch.inference_mode():
        with kernels.use("compiled"):
            ys, _ = net(xs)
        with kernels.use("reference"):
            expected, _ = net(xs)
    torch.testing.assert_close(ys, expected)
    with kernels.use("compiled"):
        carries_memory(Neuron(threshold=rb.DTIF()), tensors(), dyadic(4, 2, 20), [1, 3], scanned)


def scanned(neuron: Neuron, t: Tensors, xs: Tensor, m: rb.Membrane | None = None) -> tuple[Tensor, rb.Membrane]:
    (letters, worth), m = run(neuron, t, xs, m)
    return letters * worth, m


def test_every_kernel_can_be_asked_for_by_its_name():
    assert tuple(kernel.name for kernel in kernels.KERNELS) == named.NAMES
