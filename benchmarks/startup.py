"""What it takes until the first answer: imports, conversion, compilation and the first call, beside other libraries.

    bash benchmarks/environment.sh
    RHEOBASE_DATA=/path/to/data benchmarks/.venv/bin/python benchmarks/startup.py
    python benchmarks/startup.py --table docs/engine.md

Every import and command runs in a process of its own, several times in turns, files in the cache of the system; its
time is that of the whole process, beside a process that imports torch alone. The stages of a first answer, ResNet-20
with its published weights on 32 images of CIFAR-10 for 8 steps, are timed one after the other in one such process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from cases import TINY, Case, reference
from pairs import Spread, plainly, release, seconds, spread
from plain import images, network, settled
from suite import OUT, Benchmark, Found

import rheobase as rb
from rheobase.recipes.comparison import program

TORCH = "import torch"
PEERS = {
    "spikingjelly": "import spikingjelly.activation_based.neuron", "snntorch": "import snntorch",
    "norse": "import norse.torch", "sinabs": "import sinabs.layers",
}  # fmt: skip


CASES = (Case("resnet20", 32, 8),)


def commands() -> dict[str, list[str]]:
    """What is started, by name: torch alone, rheobase, and every other library that is installed."""
    lines = [TORCH, "import rheobase", *(line for package, line in PEERS.items() if release(package))]
    own = {"rheobase --version": ["-c", "import sys; from rheobase.cli import main; sys.exit(main())", "--version"]}
    return {line: ["-c", line] for line in lines} | own


def started(words: list[str]) -> Callable[[], object]:
    """A process of Python from its start to its end; one that fails is an error."""
    given = [sys.executable, "-W", "ignore", *words]
    return lambda: subprocess.run(given, check=True, capture_output=True)


def imports(rounds: int) -> dict[str, Spread]:
    """Seconds of every command, in turns; those that fail are left out by name."""
    works = {name: started(words) for name, words in commands().items()}
    for name in list(works):
        try:
            works[name]()
        except subprocess.CalledProcessError as error:
            said = (error.stderr.decode().strip() or f"exit {error.returncode}").splitlines()[-1]
            print(f"{name} is left out: {said}", flush=True)
            del works[name]
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            taken[name].append(seconds(work))
    return {name: spread(values) for name, values in taken.items()}


def stages(case: Case) -> dict[str, float]:
    """Seconds of every stage in this process, which has done nothing yet but imports."""
    found: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        value = work()
        found[name] = time.perf_counter() - begun
        return value

    def read() -> tuple[Any, Any]:
        x, model = images(case.net, 256 + case.batch), network(case.net)
        return (model if case.net == "resnet20" else settled(model, x[:256])), x

    model, x = timed("images and weights", read)
    calibration, x = x[:256], x[256:].contiguous(memory_format=torch.channels_last)
    net, _ = timed("convert", lambda: rb.convert(model, rb.methods.percentile(99.9), [calibration]))
    xs = rb.constant(x, case.steps)
    timed("first call", lambda: net(xs))
    fast = timed("compile", lambda: rb.compile(net, x))
    ys = timed("first call, compiled", lambda: fast(xs))[0]
    timed("later call, compiled", lambda: fast(xs))
    off = (ys[-1] - reference(fast.net, x, case.steps)).abs().max()
    assert off < 1e-4, f"the compiled network is {off} from the law"
    return found


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Seconds of commands and of stages, with their quartiles."""
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        words = [sys.executable, "-W", "ignore", __file__, "--stages", case.net, str(case.batch), str(case.steps)]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        for name, value in json.loads(done.stdout.splitlines()[-1]).items():
            taken.setdefault(name, []).append(value)
    found = imports(rounds)
    return {"processes_s": plainly(found), "stages_s": plainly({name: spread(v) for name, v in taken.items()})}


def rows(found: Found) -> Iterator[str]:
    """Seconds, and for processes in times of one that imports torch alone."""
    yield "| what | seconds | quartiles | of `import torch` alone |"
    yield "|---|---|---|---|"
    for case, result in found:
        alone = result["processes_s"][TORCH]["median"]
        for name, s in result["processes_s"].items():
            yield f"| `{name}` | {s['median']:.2f} | {s['low']:.2f} to {s['high']:.2f} | {s['median'] / alone:.2f} |"
        for name, s in result["stages_s"].items():
            what = f"{case.net}, {case.batch} images, T = {case.steps}: {name}"
            yield f"| {what} | {s['median']:.3f} | {s['low']:.3f} to {s['high']:.3f} | |"


STARTUP = Benchmark(
    name="startup", cases=CASES, quick=(TINY,), measure=measure, rows=rows, rounds=5, out=OUT / "startup"
)


def main() -> None:
    if "--stages" not in sys.argv:
        STARTUP.program(__doc__)
        return
    net, batch, steps = sys.argv[sys.argv.index("--stages") + 1 :]
    torch.set_num_threads(1)
    with torch.no_grad():
        print(json.dumps(stages(Case(net, int(batch), int(steps)))))


if __name__ == "__main__":
    program(main)
