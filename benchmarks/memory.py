"""How much memory a run of many steps takes, beside other libraries: each candidate in a process of its own.

    bash benchmarks/environment.sh
    RHEOBASE_DATA=/path/to/data benchmarks/.venv/bin/python benchmarks/memory.py
    python benchmarks/memory.py --table docs/engine.md

    peak = largest resident memory while T steps run - resident memory before, in MiB

Networks, thresholds and images are those of speed.py. The network is loaded or compiled and run once for one step of
one image, so that libraries and their caches are there; then freed memory is given back to the system, and the kernel
of Linux is told to forget the peak so far. A candidate counts only if its outputs are those of the reference.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from cases import TINY, Case, Prepared, agrees, candidates, prepared, reference
from pairs import Work, spread
from plain import network, with_neurons
from safetensors.torch import load_file, save_file
from suite import OUT, Benchmark, Found
from torch import nn

import rheobase as rb
from rheobase.errors import RheobaseError
from rheobase.files import read_json, write_json
from rheobase.recipes.comparison import program

CASES = (Case("vgg16", 8, 32), Case("resnet20", 32, 32))
CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
ANN = "ANN, one pass"


def keep(given: Prepared, expected: torch.Tensor, folder: Path) -> None:
    """All that the processes need."""
    save_file(given.ann.state_dict(), folder / "ann.safetensors")
    save_file({"x": given.x.contiguous(), "expected": expected.contiguous()}, folder / "images.safetensors")
    rb.save(folder / "snn.safetensors", given.net)
    write_json(folder / "thresholds.json", given.thresholds)


def kept(case: Case, folder: Path) -> tuple[Prepared, torch.Tensor]:
    """The same in another process."""
    ann, tensors = network(case.net), load_file(folder / "images.safetensors")
    ann.load_state_dict(load_file(folder / "ann.safetensors"))
    x = tensors["x"].contiguous(memory_format=torch.channels_last)
    net = rb.load(folder / "snn.safetensors")
    return Prepared(ann, net, read_json(folder / "thresholds.json"), x), tensors["expected"]


def resident(key: str) -> float:
    """A line of the status of this process in MiB: `VmRSS` now, `VmHWM` at most so far."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines[key].split()[0]) / 1024


def settle() -> None:
    """Give back what is freed, and forget the peak so far."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    CLEAR.write_text("5")


@torch.inference_mode()
def alone(case: Case, folder: Path, name: str) -> dict[str, Any]:
    """One candidate in this process: its peak, and whether its outputs are those of the reference."""
    given, expected = kept(case, folder)
    small = given._replace(x=given.x[:1])
    work, first = runs(given, case.steps, name), runs(small, 1, name)
    first()
    del first, small
    settle()
    before = resident("VmRSS")
    found = work()
    peak = resident("VmHWM") - before
    return {"peak": peak, "same": name == ANN or agrees(found, expected, name)}


def runs(given: Prepared, steps: int, name: str) -> Work:
    """A candidate made ready, or the source network with its batch norms folded."""
    if name != ANN:
        return candidates(given, steps, name)[name]()
    ann = with_neurons(given.ann, given.thresholds, lambda _: nn.ReLU())
    return lambda: ann(given.x)


def asked(case: Case, folder: Path, name: str) -> dict[str, Any] | None:
    """What a process of its own finds; None where it fails, with the last line that it said."""
    words = [sys.executable, __file__, "--alone", case.net, str(case.batch), str(case.steps), str(folder), name]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit {done.returncode}").splitlines()[-1]
        print(f"{name} is left out: {said}", flush=True)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """The peak of every candidate over so many processes."""
    if not CLEAR.exists():
        raise RheobaseError(f"there is no {CLEAR}", why="a peak is measured from a moment on", instead="Linux")
    with torch.inference_mode(), tempfile.TemporaryDirectory() as name:
        folder, given = Path(name), prepared(case)
        keep(given, reference(given.net, given.x, case.steps), folder)
        peaks: dict[str, list[float]] = {}
        for _ in range(rounds):
            for candidate in (ANN, *candidates(given, case.steps)):
                if (found := asked(case, folder, candidate)) and found["same"]:
                    peaks.setdefault(candidate, []).append(found["peak"])
    return {"peak_mib": {candidate: spread(values)._asdict() for candidate, values in peaks.items()}}


def rows(found: Found) -> Iterator[str]:
    """Peaks in MiB, and in parts of spikingjelly's multi-step mode."""
    yield "| network, batch, T | library | peak MiB | quartiles | of spikingjelly, multi-step |"
    yield "|---|---|---|---|---|"
    for case, result in found:
        peaks = result["peak_mib"]
        most = peaks.get("spikingjelly, multi-step", {}).get("median")
        for name, peak in sorted(peaks.items(), key=lambda pair: pair[1]["median"]):
            part = f"{peak['median'] / most:.2f}" if most else ""
            yield (
                f"| {case.net}, {case.batch}, {case.steps} | {name} | {peak['median']:.0f} "
                f"| {peak['low']:.0f} to {peak['high']:.0f} | {part} |"
            )


MEMORY = Benchmark(name="memory", cases=CASES, quick=(TINY,), measure=measure, rows=rows, rounds=3, out=OUT / "memory")


def main() -> None:
    if "--alone" not in sys.argv:
        MEMORY.program(__doc__)
        return
    net, batch, steps, folder, name = sys.argv[sys.argv.index("--alone") + 1 :]
    torch.set_num_threads(1)
    print(json.dumps(alone(Case(net, int(batch), int(steps)), Path(folder), name)))


if __name__ == "__main__":
    program(main)
