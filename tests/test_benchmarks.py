"""The benchmarks without their clocks: what is compared does the same, what does not is caught, tables are in place.

Other libraries are tried where they are installed (`bash benchmarks/environment.sh`), and skipped with the reason.
"""

from __future__ import annotations

import itertools
import subprocess
import warnings
from functools import partial
from pathlib import Path

import memory
import neurons
import pairs
import pytest
import scaling
import speed
import startup
import torch
import training_step
from accuracy import Spelled
from cases import TINY, agrees, candidates, error, prepared, reference
from libraries import PLAIN, STEPPED, Activation, Law, Library, kernel
from peers import PEERS
from plain import quantised, with_neurons
from suite import across
from torch import nn

from rheobase.files import write_json
from rheobase.kernels import cpu
from rheobase.nets.cifar_resnet import Block
from rheobase.recipes.comparison import insert

ENGINE = Path(__file__).parent.parent / "docs" / "engine.md"
ALL = (speed.NETS, neurons.NEURONS, training_step.TRAINING, memory.MEMORY, startup.STARTUP, scaling.SCALING)
CASES = {case.neuron: case for case in neurons.TINY}
FIRST = training_step.Case("tiny", "fp32", 4, 2)
built = pytest.mark.skipif(bool(cpu.MISSING), reason=cpu.MISSING)


@pytest.fixture(params=PEERS)
def peer(request) -> list[Library]:
    """The ways of another library to run neurons."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return PEERS[request.param]()
        except ImportError as error:
            pytest.skip(f"{request.param} cannot be imported: {error}")


@pytest.fixture(scope="module")
def tiny():
    with torch.no_grad():
        given = prepared(TINY)
        return given, reference(given.net, given.x, TINY.steps)


def wrong(library: Library, name: str, law: Law | None = None) -> str:
    """Why the library does not run a neuron of the benchmark, or another law in its place."""
    xs, grads = neurons.drives(CASES[name])
    expected = neurons.by_law(neurons.LAWS[name], xs, grads)
    return neurons.wrong(library, law or neurons.LAWS[name], xs, grads, expected)


@pytest.mark.parametrize("name", CASES)
def test_neurons_of_every_kernel_and_of_plain_pytorch_are_those_of_the_law(name):
    kernels = ["reference"] if cpu.MISSING else ["reference", "cpu"]
    for library in (*map(kernel, kernels), *PLAIN):
        assert wrong(library, name) == "", library.name
    xs, grads = neurons.drives(CASES[name])
    assert 0.02 < neurons.by_law(neurons.LAWS[name], xs, grads)[0].mean() < 0.3


@pytest.mark.parametrize("name", CASES)
def test_neurons_of_other_libraries_are_those_of_the_law_or_say_why_not(peer, name):
    law = neurons.LAWS[name]
    assert any(not library.declines(law) for library in peer) or name == "if"
    for library in peer:
        if library.declines(law) and library.name == "snntorch":
            assert "spikes are others" in wrong(library, name)
        elif not library.declines(law):
            assert wrong(library, name) == ""


def test_another_neuron_and_another_gradient_are_caught(monkeypatch):
    assert "spikes are others" in wrong(PLAIN[1], "lif", Law(leak=0.25))
    assert "spikes are others" in wrong(STEPPED, "if", Law(threshold=0.75))
    monkeypatch.setattr("libraries.Fire.backward", lambda ctx, *grads: (grads[0], None))
    assert "gradients are others" in wrong(PLAIN[1], "lif")


@pytest.mark.skipif(bool(cpu.MISSING), reason=cpu.MISSING)
def test_a_run_that_is_not_parity_is_not_timed(monkeypatch):
    monkeypatch.setattr(neurons, "paired", lambda beside, works, rounds: {n: pairs.Spread(1, 1, 1) for n in works})
    monkeypatch.setattr(neurons, "libraries", lambda law: iter((PLAIN[0], broken)))
    broken = PLAIN[1]._replace(name="broken", neuron=lambda law: PLAIN[1].neuron(Law(leak=0.75)))
    found = neurons.measure(neurons.TINY[1], 1)
    assert set(found["r"]["forward"]) == {"rheobase, reference", "rheobase, cpu", PLAIN[0].name}
    assert found["r"].keys() == set(neurons.PASSES)


@built
@torch.no_grad()
def test_every_way_to_run_a_network_answers_as_the_reference_and_a_wrong_one_is_caught(tiny):
    given, expected = tiny
    works = candidates(given, TINY.steps, "rheobase, compiled int8")
    own = [name for name in works if name.startswith("rheobase")]
    assert len(own) == 4
    for name in own:
        assert agrees(works[name]()(), expected, name)
    for library in PLAIN:
        assert agrees(answer(library, given, 1.0), expected, library.name)
        assert not agrees(answer(library, given, 0.5), expected, library.name)


@torch.no_grad()
def test_networks_of_other_libraries_answer_as_the_reference(peer, tiny):
    given, expected = tiny
    for library in peer:
        if not library.declines(Law()):
            assert agrees(answer(library, given, 1.0), expected, library.name)
            assert agrees(answer(library, given, 1.0), expected, "again: nothing is left of the run before")


@pytest.mark.skipif("x86" not in torch.backends.quantized.supported_engines, reason="no kernels of 8 bits here")
def test_the_ann_in_8_bits_is_nearly_the_ann(tiny):
    given, _ = tiny
    block = Spelled(Block(8, 16, nn.ReLU)).eval()
    x = torch.rand(4, 3, 8, 8).to(memory_format=torch.channels_last)
    ann = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Identity(), nn.ReLU(), block, nn.Flatten(), nn.Linear(144, 5)).eval()
    ann = with_neurons(ann, [1.0] * 3, lambda _: nn.ReLU())
    for net, images in ((ann, x), (with_neurons(given.ann, given.thresholds, lambda _: nn.ReLU()), given.x)):
        with torch.no_grad():
            small = quantised(net, images)
            assert error(small(images), net(images)) < 0.1
        assert not any(isinstance(child, (nn.Conv2d, nn.ReLU)) for child in small.modules())


def answer(library: Library, given, factor: float) -> torch.Tensor:
    """The mean output of the network with a library's neurons, thresholds multiplied by a factor."""
    net = with_neurons(given.ann, given.thresholds, lambda at: Activation(library, Law(factor * at)))
    return library.outputs(net, given.x.expand(TINY.steps, *given.x.shape)).mean(0)


def first(library: Library) -> training_step.Candidate:
    ready = partial(training_step.theirs, FIRST, library=library)
    return training_step.Candidate(library.name, library.axes == "step", ready)


X = training_step.images("tiny", FIRST.batch)


def laws(x: torch.Tensor) -> dict[bool, training_step.First]:
    """The first step of the law: all steps at once, and step by step."""
    y, together = torch.arange(FIRST.batch), training_step.ours(FIRST, x, "reference")
    return {False: training_step.first(together, y), True: training_step.first(first(STEPPED).ready(x), y)}


def test_the_first_step_of_training_is_that_of_the_law_and_a_wrong_one_is_caught(monkeypatch):
    y, law = torch.arange(FIRST.batch), laws(X.double())
    assert law[False].gradient.norm() > 0.01
    assert law[False].loss != law[True].loss  # batch norm over one step is another network
    ours = training_step.Candidate("rheobase", False, partial(training_step.ours, FIRST), compared=torch.float32)
    assert ours.differs(X, y, laws(X)[False]) == ""
    for candidate in map(first, PLAIN):
        assert candidate.differs(X, y, law[candidate.stepped]) == ""
    monkeypatch.setattr(training_step, "LAW", Law(leak=0.4))
    for candidate in map(first, PLAIN):
        assert "from the law's" in candidate.differs(X, y, law[candidate.stepped])


def test_the_first_step_of_other_libraries_is_that_of_the_law(peer):
    y, law = torch.arange(FIRST.batch), laws(X.double())
    for library in peer:
        candidate = first(library)
        if not library.declines(training_step.LAW) and library.name != "snntorch, reset in the same step":
            asked = candidate.asked if library.same_gradient else ("answer",)
            assert candidate._replace(asked=asked).differs(X, y, law[candidate.stepped]) == ""


def test_a_step_of_training_lowers_the_loss():
    x, y = training_step.images("tiny", FIRST.batch), torch.arange(FIRST.batch)
    for precision in ("fp32", "bf16"):
        learner = training_step.ours(FIRST, x)
        work, before = training_step.step(learner, y, precision), training_step.first(learner, y).loss
        for _ in range(20):
            work()
        assert training_step.first(learner, y).loss < 0.95 * before


@pytest.mark.skipif(not memory.CLEAR.exists(), reason=f"there is no {memory.CLEAR}")
def test_a_peak_is_what_was_held_at_most_since_it_was_cleared():
    torch.ones(2**24)  # 64 MiB before the measurement: it must not be seen
    memory.settle()
    before = memory.resident("VmRSS")
    held = torch.ones(2**23)
    peak = memory.resident("VmHWM") - before
    assert held.nbytes == 2**25
    assert 31 < peak < 48


@pytest.mark.skipif(not memory.CLEAR.exists(), reason=f"there is no {memory.CLEAR}")
def test_a_candidate_in_a_process_of_its_own_tells_its_peak_and_whether_it_agrees(tiny, tmp_path, capsys):
    given, expected = tiny
    memory.keep(given, expected, tmp_path)
    found = memory.asked(TINY, tmp_path, "PyTorch, time folded")
    assert found is not None
    assert found["same"]
    assert 0 <= found["peak"] < 100
    again, _ = memory.kept(TINY, tmp_path)
    with torch.inference_mode():
        assert torch.equal(reference(again.net, again.x, TINY.steps), expected)
        memory.keep(given, -expected, tmp_path)
        assert not memory.alone(TINY, tmp_path, "PyTorch, time folded")["same"]


def test_what_cannot_be_started_is_left_out_by_name(monkeypatch, capsys):
    commands = {startup.TORCH: ["-c", "pass"], "import nothing": ["-c", "import no_such_module"]}
    monkeypatch.setattr(startup, "commands", lambda: commands)
    assert list(startup.imports(1)) == [startup.TORCH]
    assert "import nothing is left out: ModuleNotFoundError" in capsys.readouterr().out
    with pytest.raises(subprocess.CalledProcessError):
        startup.started(["-c", "raise SystemExit(3)"])()


@built
@torch.no_grad()
def test_the_stages_to_a_first_answer_are_all_there():
    found = startup.stages(TINY)
    assert list(found) == [
        "images and weights", "convert", "first call", "compile", "first call, compiled", "later call, compiled",
    ]  # fmt: skip


@pytest.mark.parametrize("power", [1, 2, -1])
def test_a_fit_finds_the_law_it_was_made_of(power):
    n = [1, 2, 4, 8]
    found = scaling.fitted(n, [0.5 + 3 * k**power for k in n], power)
    assert found is not None
    assert (found.a, found.b, found.error) == (pytest.approx(0.5), pytest.approx(3), pytest.approx(0, abs=1e-9))
    straight = scaling.fitted(n, [3 * k**power for k in n], power)
    assert straight is not None
    assert straight.exponent == pytest.approx(power)
    bent = scaling.fitted(n, [1, 5, 1, 5], power)
    assert bent is not None
    assert bent.error > 0.2
    assert scaling.fitted(n[:2], [1, 2], power) is None


@built
def test_every_size_is_run_by_the_law_and_compiled(monkeypatch):
    seen: list[int] = []
    monkeypatch.setattr(scaling, "paired", lambda beside, works, rounds: clocked(works, seen))
    found = scaling.measure(scaling.Case("threads", (1, 2), scaling.SMALL), 1)
    assert seen == [1, 1, 2, 2]
    assert torch.get_num_threads() == 1
    assert {name: [point["n"] for point in points] for name, points in found["times"].items()} == {
        name: [1, 2] for name in ("rheobase, compiled int8", "rheobase, reference")
    }
    assert found["laws"]["rheobase, reference"] is None
    flat = scaling.law([{"n": n, "median": 1.0} for n in (1, 2, 3)], -1)
    assert flat is not None
    assert flat["exponent"] == pytest.approx(0)
    found["laws"]["rheobase, reference"] = flat
    table = "\n".join(scaling.rows([(scaling.Case("threads", (1, 2)), found)]))
    assert "| threads | rheobase, reference | 1: 1.00, 2: 1.00 | 1 + " in table


def clocked(works, seen: list[int]) -> dict[str, pairs.Spread]:
    """In the place of times: that every work ran, and on how many threads."""
    for work in works.values():
        work()
        seen.append(torch.get_num_threads())
    return {name: pairs.Spread(1.0, 1.0, 1.0) for name in works}


def test_pairs_are_ratios_to_the_neighbours(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(pairs.time, "perf_counter", lambda: next(clock) + drift[0])
    drift = [0.0]

    def slow() -> None:
        drift[0] += 3

    found = pairs.paired(lambda: None, {"slow": slow, "same": lambda: None}, rounds=3)
    assert found == {"slow": pairs.Spread(4, 4, 4), "same": pairs.Spread(1, 1, 1)}
    assert pairs.spread([1, 2, 3, 4, 100]) == pairs.Spread(3, 2, 4)
    assert pairs.spread([2]).times(0.5) == pairs.Spread(1, 1, 1)


def result(benchmark, case) -> dict:
    """What a measurement could have found."""
    r = {name: {"median": 2.0, "low": 1.0, "high": 3.0} for name in ("rheobase", startup.TORCH)}
    own = {"rheobase, compiled int8": r["rheobase"], "rheobase, cpu": r["rheobase"]} | r
    return {
        "neurons": {"r": dict.fromkeys(neurons.PASSES, own)},
        "scaling": {"times": {"rheobase": [{"n": 1, "median": 2.0}]}, "laws": {"rheobase": None}},
        "memory": {"peak_mib": r}, "startup": {"processes_s": r, "stages_s": r},
    }.get(benchmark.name, {"r": own, "rate": 0.1})  # fmt: skip


@pytest.mark.parametrize("benchmark", ALL, ids=lambda benchmark: benchmark.name)
def test_a_table_of_results_goes_between_its_marks_and_nowhere_else(benchmark, tmp_path):
    page, case = tmp_path / "engine.md", benchmark.cases[0]
    page.write_text(f"before\n<!-- {benchmark.name} -->\nold\n<!-- /{benchmark.name} -->\nafter\n")
    insert(page, {benchmark.name: benchmark.table(tmp_path)})
    assert page.read_text() == f"before\n<!-- {benchmark.name} -->\n\n\n<!-- /{benchmark.name} -->\nafter\n"
    write_json(tmp_path / f"{case}.json", result(benchmark, case))
    table = benchmark.table(tmp_path)
    assert list(benchmark.rows(iter([(case, result(benchmark, case))]))) == table
    assert len({line.count("|") for line in table}) == 1
    assert len(table) > 2
    insert(page, {benchmark.name: table})
    lines = page.read_text().splitlines()
    assert lines[3 : 3 + len(table)] == table
    assert (lines[0], lines[-1]) == ("before", "after")


def test_a_row_compares_with_the_faster_mode_and_tells_how_far_quartiles_lie():
    def spread(median: float, low: float = 0, high: float = 0) -> dict[str, float]:
        return {"median": median, "low": low or median, "high": high or median}

    first = {"spikingjelly, a": spread(4), "own": spread(1, low=0.9), "spikingjelly, b": spread(3, high=3.9)}
    found = [("| 1", first), ("| 2", {"own": spread(2), "other": spread(0.125)})]
    assert list(across("| case", found, "own")) == [
        "| case | other | own | spikingjelly, b | spikingjelly, a | spikingjelly / own | quartiles within |",
        "|---|---|---|---|---|---|---|",
        "| 1 |  | 1 | 3 | 4 | **3.0** | 30% |",
        "| 2 | 0.125 | 2 |  |  |  | 0% |",
    ]


@pytest.mark.parametrize("benchmark", [b for b in ALL if b.anywhere], ids=lambda benchmark: benchmark.name)
def test_results_of_a_gpu_have_files_and_a_table_of_their_own(benchmark, tmp_path):
    (there,) = benchmark.on("cuda", benchmark.cases[:1])
    assert str(there) == f"{benchmark.cases[0]}-cuda"
    own = result(benchmark, there)
    own["r"] = (
        {p: {"rheobase, triton": r["rheobase"]} for p, r in own["r"].items()}
        if "neurons" in str(benchmark.out)
        else own["r"]
    )
    write_json(tmp_path / f"{there}.json", own)
    tables = benchmark.tables(tmp_path)
    assert tables[benchmark.name] == []
    assert len(tables[f"{benchmark.name} on a GPU"]) > 2
    assert list(benchmark.tables(tmp_path / "empty")) == [benchmark.name]


def test_results_that_exist_are_kept(tmp_path, monkeypatch):
    benchmark = speed.NETS
    write_json(tmp_path / f"{TINY}.json", {})
    benchmark.run(TINY, 1, tmp_path)
    assert (tmp_path / f"{TINY}.json").read_text() == "{}\n"


def test_the_page_holds_the_tables_of_the_committed_results(tmp_path):
    page = tmp_path / "engine.md"
    page.write_text(ENGINE.read_text())
    for benchmark in ALL:
        assert f"<!-- {benchmark.name} -->" in ENGINE.read_text()
        insert(page, benchmark.tables(ENGINE.parent.parent / benchmark.out))
    assert page.read_text() == ENGINE.read_text(), "make readme"
