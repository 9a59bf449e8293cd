"""How long a step of training takes, beside other libraries: forward, backward and SGD.

    bash benchmarks/environment.sh
    RHEOBASE_DATA=/path/to/data benchmarks/.venv/bin/python benchmarks/training_step.py
    python benchmarks/training_step.py --table docs/engine.md
    benchmarks/.venv/bin/python benchmarks/training_step.py --device cuda

    r = time of a step / (T x time of the same step of the ANN, with ReLU, in float32)

Six times convolution, batch norm and LIF (leak 0.5, soft reset, ATan), images held for T steps, the mean output, SGD.
In bfloat16 the convolutions run under autocast. All start with the same weights, channels last. A candidate is timed
only if its first answers and gradients are those of the law: of the reference kernel where batch norm sees all steps at
once, of the law step by step where the network is called for each step, so that batch norm sees one. Other libraries
are compared in float64: in float32 the convolution of T x N images sums in another order than that of N, a spike at a
threshold falls to the other side, and answers and gradients of equal networks lie 6 % and 25 % apart. In bfloat16,
where some libraries round potentials too and spikes are others, the first loss must be the law's to 2 %. What a
library cannot be asked is in its name: norse has other surrogates, and the leaky neuron of snntorch another reset, a
step late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from cases import at, error
from cases import kernel as usual
from libraries import STEPPED, Activation, Law, Library, installed, layer
from pairs import Work, paired, plainly
from plain import channels_last, images
from suite import OUT, Benchmark, Found, across
from torch import Tensor, nn
from torch.nn import functional as F

import rheobase as rb
from rheobase.nets import Plain
from rheobase.recipes.comparison import program

NETS = {"six": Plain(layers="64C3-64C3-P2-128C3-128C3-P2-256C3-256C3-G"), "tiny": Plain(layers="8C3-P2-8C3-G")}
LAW = Law(leak=0.5)
ALLOWED = 0.05
"""How far answers and gradients may be from the law's, in their spread: one spike that rounding moves moves others."""
LOSS = 0.02
"""How far the first loss in bfloat16 may be from the law's, as a share of it."""


class Case(NamedTuple):
    """A network, its precision, how many images at once, how many steps, and where."""

    net: str
    precision: str
    batch: int
    steps: int
    device: str = "cpu"

    def __str__(self) -> str:
        return f"{self.net}-{self.precision}-b{self.batch}-t{self.steps}{at(self.device)}"


CASES = (Case("six", "fp32", 16, 4), Case("six", "bf16", 16, 4), Case("six", "fp32", 16, 2), Case("six", "bf16", 16, 2))
TINY = (Case("tiny", "fp32", 4, 2), Case("tiny", "bf16", 4, 2))


class Learner(NamedTuple):
    """A network and how it answers: the mean output over the steps `[N, classes]`."""

    net: nn.Module
    answer: Callable[[], Tensor]


def made(case: Case, activation: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    """The network with these activations; the weights are always the same."""
    torch.manual_seed(0)
    return NETS[case.net].made((3, 32, 32), 10, activation).train().to(case.device, dtype)


def ours(case: Case, x: Tensor, kernel: str = "") -> Learner:
    """rheobase, by the kernel it chooses or one that is asked for."""
    net = channels_last(rb.spiking(made(case, lambda: layer(LAW), x.dtype), x))

    def answer() -> Tensor:
        with rb.kernels.use(kernel) if kernel else usual(x):
            return net(rb.constant(x, case.steps))[0][-1]

    return Learner(net, answer)


def theirs(case: Case, x: Tensor, library: Library) -> Learner:
    """Another library, or the law step by step."""
    net = channels_last(made(case, lambda: Activation(library, LAW), x.dtype))
    return Learner(net, lambda: library.outputs(net, x.expand(case.steps, *x.shape)).mean(0))


def ann(case: Case, x: Tensor) -> Learner:
    """The network with ReLUs: one pass."""
    net = channels_last(made(case, nn.ReLU, x.dtype))
    return Learner(net, lambda: net(x))


class First(NamedTuple):
    """Answers, loss and all gradients of the weights of a first step."""

    answer: Tensor
    loss: float
    gradient: Tensor


def first(learner: Learner, y: Tensor, precision: str = "fp32") -> First:
    """The first step, without the change of the weights."""
    learner.net.zero_grad()
    loss, answer = losses(learner, y, precision)
    loss.backward()
    grads = [p.grad.flatten() for p in learner.net.parameters() if p.grad is not None and p.ndim > 1]
    return First(answer.detach(), float(loss.detach()), torch.cat(grads))


def losses(learner: Learner, y: Tensor, precision: str) -> tuple[Tensor, Tensor]:
    """Loss and answers, under autocast for bfloat16."""
    with torch.autocast(y.device.type, torch.bfloat16, enabled=precision == "bf16"):
        answer = learner.answer()
    return F.cross_entropy(answer.float() if answer.dtype == torch.bfloat16 else answer, y), answer


def step(learner: Learner, y: Tensor, precision: str) -> Work:
    """One step of training, weights and all."""
    optimiser = torch.optim.SGD(learner.net.parameters(), lr=0.01, momentum=0.9)

    def work() -> None:
        optimiser.zero_grad()
        losses(learner, y, precision)[0].backward()
        optimiser.step()

    return work


class Candidate(NamedTuple):
    """Something that trains the network on images `x`. stepped: batch norm sees one step at a time. asked: what must be
    the law's, in the precision `compared`."""

    name: str
    stepped: bool
    ready: Callable[[Tensor], Learner]
    asked: tuple[str, ...] = ("answer", "gradient")
    compared: torch.dtype = torch.float64

    def differs(self, x: Tensor, y: Tensor, law: First) -> str:
        """Why its first step is not that of the law, or ""."""
        found = first(self.ready(x.to(self.compared)), y)._asdict()
        off = {name: error(found[name], getattr(law, name)) for name in self.asked}
        return ", ".join(f"its {name} is {e:.1%} from the law's" for name, e in off.items() if not e <= ALLOWED)


def candidates(case: Case) -> Iterator[Candidate]:
    """Everything that trains this network here."""
    yield Candidate("rheobase", False, partial(ours, case), compared=torch.float32)  # its kernels know no other
    yield Candidate("rheobase, reference", False, partial(ours, case, kernel="reference"))
    for library in installed():
        ready = partial(theirs, case, library=library)
        stepped = library.axes == "step"
        if library.declines(LAW):
            yield Candidate(f"{library.name} (another neuron)", stepped, ready, ())
        elif library.same_gradient:
            yield Candidate(library.name, stepped, ready)
        else:
            yield Candidate(f"{library.name} (another surrogate)", stepped, ready, ("answer",))


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """r of everything whose first step is that of the law."""
    x = images(case.net, case.batch).contiguous(memory_format=torch.channels_last).to(case.device)
    y = torch.arange(case.batch, device=case.device) % 10
    by = {False: partial(ours, case, kernel="reference"), True: partial(theirs, case, library=STEPPED)}
    laws = {(way, t): first(law(x.to(t)), y) for way, law in by.items() for t in (torch.float32, torch.float64)}
    works, losses = {}, {}
    for candidate in candidates(case):
        law = laws[candidate.stepped, candidate.compared]
        why = candidate.differs(x, y, law)
        learner = candidate.ready(x)
        loss = first(learner, y, case.precision).loss
        if not why and candidate.asked and abs(loss / law.loss - 1) > LOSS:
            why = f"its first loss is {loss:.4f}, the law's {law.loss:.4f}"
        if why:
            print(f"{candidate.name} is left out: {why}", flush=True)
        else:
            works[candidate.name], losses[candidate.name] = step(learner, y, case.precision), loss
    ratios = paired(step(ann(case, x), y, "fp32"), works, rounds)
    r = {name: ratio.times(1 / case.steps) for name, ratio in ratios.items()}
    return {"r": plainly(r), "first_loss": losses}


def rows(found: Found) -> Iterator[str]:
    """r of every library."""
    ratios = ((f"| {case.precision}, {case.batch}, {case.steps}", result["r"]) for case, result in found)
    return across("| precision, batch, T", ratios, "rheobase")


TRAINING = Benchmark(
    name="training step", cases=CASES, quick=TINY, measure=measure, rows=rows, out=OUT / "training", anywhere=True
)

if __name__ == "__main__":
    program(lambda: TRAINING.program(__doc__))
