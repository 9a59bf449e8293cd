"""The command line. Results go to stdout, progress and errors to stderr.

Bad input ends with 2, a certificate that fails with 1, Ctrl-C with 130.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import cli_training, data, demo, kernels, methods, plot, table
from .arguments import parse
from .checkpoint import network
from .cite import bibtex, cited_in, keys
from .convert import convert
from .diagnose import diagnose
from .errors import FileError, InputError, RheobaseError, SpecError
from .evaluate import evaluate
from .files import read_json, write_json
from .method import Method
from .observe import check_input
from .preflight import preflight
from .search import Choice, search
from .shards import Shards, processes
from .spec import nearest, to_json
from .store import load, save
from .table import Table
from .terminal import Terminal, require_rich
from .verify import verify


def run_demo(options: argparse.Namespace, terminal: Terminal) -> None:
    """Train a small network on handwritten digits, convert it with each method, and compare."""
    writable(options.out / "demo.json")
    if not options.json:
        require_rich()
    state = demo.Progress("nothing was written", [])
    with terminal.progress() as advance:
        for state in demo.run(options.out, options.seed, advance):
            terminal.finished = state.finished
    shown = table.comparison(state.curves, f"accuracy in % after T steps, {state.curves[0].samples} test images")
    shown = shown._replace(notes=(*shown.notes, *demo.NOTES))
    text = f"{state.finished}\nnext: rheobase methods, or convert your own network: rheobase convert --help"
    terminal.result(read_json(options.out / "demo.json"), shown, text=text)


def run_methods(options: argparse.Namespace, terminal: Terminal) -> None:
    """List every named method with its parts and what to cite."""
    found = [
        {
            "name": name,
            "line": " ".join((made.__doc__ or "").split("\n")[0].split()),
            "settings": settings_of(name),
            "method": methods.named(name),
            "citations": list(keys(name)),
        }
        for name, made in methods.NAMED.items()
    ]
    rows = []
    for one in found:
        sources = cited_in(one["line"])
        line = one["line"].replace("".join(f" [{key}]" for key in sources), "")
        rows.append((one["name"], f"{line}\n{one['method']}", "\n".join(one["citations"])))
    shown = Table("named methods", ("name", "what it is, and the Method it returns", "cite"), rows, numeric=False)
    terminal.result([one | {"method": to_json(one["method"])} for one in found], shown)


def run_cite(options: argparse.Namespace, terminal: Terminal) -> None:
    """BibTeX of everything the named methods use."""
    found = list(dict.fromkeys(key for name in options.method for key in keys(name)))
    terminal.result({"keys": found, "bibtex": bibtex(found)}, text=bibtex(found))


def run_preflight(options: argparse.Namespace, terminal: Terminal) -> None:
    """What would become of every node of a network, before any data is touched."""
    ann = network(options.model, options.weights)
    example = torch.zeros(1, *options.shape, dtype=torch.int64 if options.tokens else torch.float32)
    found = preflight(ann, example, on_unsupported=options.on_unsupported, leave=options.leave)
    if not options.json:
        require_rich()
    terminal.result(found.to_json(), table.preflight(found))


STAGES = {"observe": "calibrating", "fit": "fitting", "distil": "distilling", "correct": "correcting"}
ONCE = ("observe", "confidence")
"""The stages of a conversion that see every sample once, so that it is known how far they are."""


def run_convert(options: argparse.Namespace, terminal: Terminal) -> None:
    """Turn a trained network into a spiking one, calibrated on training data."""
    method = choose(options.method, options.set)
    writable(options.out)
    if not options.json:
        require_rich()
    ann = network(options.model, options.weights)
    with terminal.progress() as advance:
        x, y = samples(options, advance)
        generator = torch.Generator().manual_seed(options.seed)
        snn, report = convert(
            ann,
            method,
            data.batches(x, y, options.batch),
            on_unsupported=options.on_unsupported,
            leave=options.leave,
            generator=generator,
            progress=lambda stage, n: advance(STAGES.get(stage, stage), n, len(x) if stage in ONCE else 0),
        )
    save(options.out, snn)
    terminal.finished = f"{options.out} is written"
    text = f"wrote {options.out}\nnext: rheobase evaluate --snn {options.out} --data <test data>"
    terminal.result(report.to_json(), table.report(report), text=text)


def run_evaluate(options: argparse.Namespace, terminal: Terminal) -> None:
    """Accuracy, spikes and energy of a spiking network after each step, from one run."""
    if (options.model is None) != (options.weights is None):
        raise SpecError("the ANN reference needs both --model and --weights", instead="give both, or neither")
    check_outputs(options)
    snn = load(options.snn)
    ann = network(options.model, options.weights) if options.model else None
    shared = processes() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Shards()
    with terminal.progress() as advance:
        x, y = samples(options, advance)
        if ann is not None:
            try_out(ann, x[:1], options.model)
        curve = evaluate(
            snn,
            data.batches(x, y, options.batch),
            options.steps,
            label=options.snn.stem,
            ann=ann,
            shards=shared,
            progress=lambda n: advance("evaluating", n, len(x)),
        )
    if not shared.first:
        return
    origin = {"snn": str(options.snn), "data": str(options.data), "limit": options.limit}
    curve = replace(curve, provenance=curve.provenance | origin)
    text = write_outputs(options, curve.to_json(), lambda: plot.accuracy_latency([curve]), terminal)
    terminal.result(curve.to_json(), table.curve(curve), text=text)


def run_verify(options: argparse.Namespace, terminal: Terminal) -> bool:
    """Certify that a spiking network tends to its ANN and that its answer depends on nothing else; 1 if not."""
    if not options.json:
        require_rich()
    snn, ann = load(options.snn), network(options.model, options.weights)
    with terminal.progress() as advance:
        x, y = samples(options, advance)
        certificate = verify(
            snn,
            ann,
            data.batches(x, y, options.batch),
            steps=options.steps,
            samples=len(x),
            progress=lambda stage, n: advance(stage, n, 0),
        )
    text = "" if certificate.holds else "the certificate FAILS"
    terminal.result(certificate.to_json(), table.limits(certificate), table.certificate(certificate), text=text)
    return not certificate.holds


def run_diagnose(options: argparse.Namespace, terminal: Terminal) -> None:
    """Split the conversion error by layer and cause, name the layer to blame first, and propose what to change."""
    check_outputs(options)
    snn, ann = load(options.snn), network(options.model, options.weights)
    with terminal.progress() as advance:
        x, y = samples(options, advance)
        found = diagnose(
            snn,
            ann,
            data.batches(x, y, options.batch),
            options.steps,
            samples=len(x),
            trials=options.trials,
            progress=lambda stage, n: advance(stage, n, 0),
        )
    text = write_outputs(options, found.to_json(), lambda: plot.diagnosis(found), terminal)
    terminal.result(found.to_json(), table.diagnosis(found), text=text)


def run_search(options: argparse.Namespace, terminal: Terminal) -> None:
    """The cheapest method, letters and steps that lose at most so much, chosen on training data."""
    for path in filter(None, (options.front, options.journal)):
        writable(path)
    check_outputs(options)
    ann = network(options.model, options.weights)
    with terminal.progress() as advance:
        x, y = samples(options, advance)
        calibration, rest = x[: options.calibrate], slice(options.calibrate, None)
        if len(x[rest]) < 2 * options.batch:
            raise InputError(
                f"{len(x)} samples leave {len(x[rest])} to choose by",
                why=f"{options.calibrate} calibrate, and choosing and confirming need a batch of {options.batch} each",
                instead="more data, a smaller --calibrate or a smaller --batch",
            )
        try_out(ann, x[:1], options.model)
        goal = {n: getattr(options, n) for n in ("max_drop", "max_energy", "steps", "letters", "binary", "pipelined")}
        choice = search(
            ann,
            data.batches(calibration, y[: len(calibration)], options.batch),
            data.batches(x[rest], y[rest], options.batch),
            **goal,
            trials=options.trials,
            seed=options.seed,
            journal=options.journal,
            progress=lambda trial: advance("searching", 1, options.trials),
        )
        found, tested_text = choice.to_json(), ""
        if options.test:
            tx, ty = data.load(options.test, size=options.size, mean=options.mean, std=options.std, limit=None)
            loader = data.batches(tx, ty, options.batch)
            tested = evaluate(choice.snn, loader, choice.candidate.steps, label=str(choice.candidate), ann=ann)
            found["test"] = tested.to_json()
            tested_text = f"test data, once: {tested.accuracy[-1]:.2%}, the ANN {tested.ann_accuracy:.2%}"
    text = "\n".join(filter(None, [tested_text, write_search(options, found, choice)]))
    terminal.result(found, table.choice(choice), text=text)


def write_search(options: argparse.Namespace, found: dict[str, Any], choice: Choice) -> str:
    """Write `--out`, `--front` and `--plot` where they are given; a line that says so."""
    written = [str(path) for path in (options.out, options.front, options.plot) if path]
    if options.out:
        save(options.out, choice.snn)
    if options.front:
        write_json(options.front, found)
    if options.plot:
        plot.save(options.plot, plot.pareto(choice))
    return f"wrote {' and '.join(written)}" if written else ""


def check_outputs(options: argparse.Namespace) -> None:
    """Refuse, before any work, what could not be written or drawn in the end."""
    for path in filter(None, (options.out, options.plot)):
        writable(path)
    if options.plot:
        plot.check_format(options.plot)
        plot.require_matplotlib()
    if not options.json:
        require_rich()


def write_outputs(
    options: argparse.Namespace, found: dict[str, Any], draw: Callable[[], plot.Figure], terminal: Terminal
) -> str:
    """Write `--out` and `--plot` where they are given; a line that says so."""
    written = []
    if options.out:
        write_json(options.out, found)
        written.append(str(options.out))
        terminal.finished = f"{options.out} is written"
    if options.plot:
        plot.save(options.plot, draw())
        written.append(str(options.plot))
    return f"wrote {' and '.join(written)}" if written else ""


def run_kernels(options: argparse.Namespace, terminal: Terminal) -> None:
    """Which kernels this machine has, and with --snn which of them runs each layer."""
    there = {
        "cpu": kernels.cpu.MISSING or f"runs with {kernels.cpu.instruction_set()} instructions",
        "triton": kernels.triton.MISSING or "runs on a GPU where it is asked for, RHEOBASE_KERNEL=triton",
        "compiled": kernels.compiled.MISSING or "runs where it is asked for, RHEOBASE_KERNEL=compiled",
        "reference": "runs",
    }
    rows, found = list(there.items()), {"kernels": there, "layers": {}}
    if options.snn is not None:
        snn = load(options.snn)
        with torch.inference_mode():
            chosen = kernels.explain(snn, torch.zeros(1, *snn.input_shape))
        found["layers"] = {name: choice._asdict() for name, choice in chosen.items()}
        declined = {n: "; ".join(f"{k} declines: {why}" for k, why in c.declined.items()) for n, c in chosen.items()}
        rows += [(name, f"{choice.kernel}\n{declined[name]}".strip()) for name, choice in chosen.items()]
    terminal.result(found, Table("kernels, the first that takes a layer runs it", ("name", ""), rows, numeric=False))


def settings_of(name: str) -> dict[str, bool | int | float]:
    """What `--set` can change of a named method: its arguments that are plain values, with their defaults."""
    defaults = {k: p.default for k, p in inspect.signature(methods.NAMED[name]).parameters.items()}
    return {k: v for k, v in defaults.items() if isinstance(v, (bool, int, float))}


def choose(name: str, settings: Sequence[str]) -> Method:
    """The named method with `key=value` settings; SpecError with the nearest names."""
    nearest(name, methods.NAMED, "method")
    known, given = settings_of(name), {}
    for setting in settings:
        key, _, text = setting.partition("=")
        if not known:
            raise SpecError(f"{name} has no settings", why=f"--set {setting} was given", instead="leave --set away")
        nearest(key, known, f"setting of {name}")
        try:
            given[key] = json.loads(text.lower())
        except ValueError:
            given[key] = None
        kind = type(known[key])
        if type(given[key]) is not kind and not (kind is float and type(given[key]) is int):
            raise SpecError(f"--set {setting}: {text!r} is no {kind.__name__}", instead=f"--set {key}={known[key]}")
    return methods.NAMED[name](**given)


def samples(options: argparse.Namespace, advance: demo.Advance) -> tuple[Tensor, Tensor]:
    """The first `--limit` samples of the data, or as many spread over a folder."""
    advance("reading data", 0, 0)
    return data.load(options.data, size=options.size, mean=options.mean, std=options.std, limit=options.limit)


def try_out(ann: nn.Module, x: Tensor, factory: str) -> None:
    """Refuse a reference network that does not run on the data."""
    check_input(x, "the data")
    try:
        with torch.inference_mode():
            ann(x)
    except RuntimeError as error:
        raise InputError(
            f"{factory} does not run on samples {tuple(x.shape[1:])}: {str(error).splitlines()[0]}",
            why="the reference must be the network that was converted",
        ) from error


def writable(path: Path) -> None:
    """FileError, before any work, if a file could not be written there in the end."""
    if path.is_dir():
        raise FileError(f"cannot write {str(path)!r}: it is a folder", instead="a file name in it")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise FileError(
            f"cannot write {str(path)!r}",
            why=f"{str(folder)!r} is no folder that you may write",
            instead="another --out",
        )


COMMANDS = {
    "demo": run_demo,
    "methods": run_methods,
    "preflight": run_preflight,
    "convert": run_convert,
    "evaluate": run_evaluate,
    "verify": run_verify,
    "diagnose": run_diagnose,
    "search": run_search,
    "kernels": run_kernels,
    "cite": run_cite,
    **cli_training.COMMANDS,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    terminal = Terminal("--json" in argv)
    try:
        options = parse(argv, COMMANDS)
        failed = COMMANDS[options.command](options, terminal)
        sys.stdout.flush()
    except RheobaseError as error:
        print(f"error: {error}", file=sys.stderr)
        if terminal.as_json:
            shown = {"kind": type(error).__name__, "what": error.what, "why": error.why, "try": error.instead}
            print(json.dumps({"error": shown}))
        return 2
    except KeyboardInterrupt:
        print(f"interrupted: {terminal.finished}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read has gone, as in `... | head`
        return 141
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
