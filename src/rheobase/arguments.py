"""The arguments of the command line: what each command takes, and the name that a misspelt one meant."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .errors import SpecError
from .spec import nearest
from .version import VERSION

Commands = Mapping[str, Callable[..., Any]]


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are errors of this library, with the option that was meant."""

    def error(self, message: str) -> NoReturn:
        raise SpecError(f"{self.prog}: {message}", instead=f"{self.prog} --help")


def parse(argv: Sequence[str], commands: Commands) -> argparse.Namespace:
    """The options; SpecError with the nearest command or option for what is unknown."""
    if argv and not argv[0].startswith("-"):
        nearest(argv[0], commands, "command")
    top, made = parsers(commands)
    options, unknown = top.parse_known_args(argv)
    if unknown:
        own = sorted(set(re.findall(r"--[a-z]+", made[options.command].format_help())))
        nearest(unknown[0], own, f"argument of rheobase {options.command}")
    return options


def parsers(commands: Commands) -> tuple[Parser, dict[str, Parser]]:
    """The parser, and that of each command."""
    top = Parser(prog="rheobase", description="Low-latency spiking neural networks, by their thresholds.")
    top.add_argument("--version", action="version", version=f"rheobase {VERSION}")
    add = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    made: dict[str, Parser] = {}
    for name, run in commands.items():
        line = (run.__doc__ or "").splitlines()[0]
        made[name] = add.add_parser(name, help=line, description=line, allow_abbrev=False)
        made[name].add_argument("--json", action="store_true", help="one JSON document on stdout")
    made["demo"].add_argument("--out", type=Path, default=Path("demo-results"), help="folder for results (%(default)s)")
    made["demo"].add_argument("--seed", type=int, default=0, help="of the split and the training (%(default)s)")
    made["cite"].add_argument("method", nargs="+", help="named methods, as `rheobase methods` lists them")
    made["kernels"].add_argument("--snn", type=Path, help="what `rheobase convert` wrote")
    _training_options(made)
    _preflight_options(made["preflight"])
    _convert_options(made["convert"])
    _evaluate_options(made["evaluate"])
    _verify_options(made["verify"])
    _diagnose_options(made["diagnose"])
    _search_options(made["search"])
    return top, made


def _training_options(made: dict[str, Parser]) -> None:
    option = made["train"].add_argument
    option("recipe", metavar="NAME", help="see `rheobase recipes`; or a file NAME.py of your own")
    option("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="steps=2 optimiser.rate=0.01 ...")
    option("--out", type=Path, help="folder of the run (runs/NAME)")
    option("--resume", action="store_true", help="go on with the run in --out if there is one")
    option("--save-seconds", type=float, default=60.0, help="between checkpoints within an epoch (%(default)s)")
    made["cp"].add_argument("recipe", metavar="NAME", help="see `rheobase recipes`")
    made["cp"].add_argument("--out", type=Path, help="file or folder (NAME.py)")


def _preflight_options(add: Parser) -> None:
    option = add.add_argument
    option("--model", required=True, metavar="MODULE:FACTORY", help="called without arguments, makes the network")
    option("--weights", type=Path, help="its weights, a safetensors file; without, those it is made with")
    option("--shape", required=True, type=wholes, help="the shape of one sample: 3,32,32")
    option("--tokens", action="store_true", help="the samples are whole numbers, for an embedding")
    _policy_options(add)


def _policy_options(add: Parser) -> None:
    add.add_argument(
        "--on-unsupported",
        default="error",
        metavar="error|keep|approximate",
        help="what to do with what has no exact spiking counterpart (%(default)s)",
    )
    add.add_argument("--leave", action="append", default=[], metavar="PATTERN", help="nodes that stay analogue")


def _convert_options(add: Parser) -> None:
    option = add.add_argument
    option("--model", required=True, metavar="MODULE:FACTORY", help="called without arguments, makes the network")
    option("--weights", required=True, type=Path, help="its trained weights, a safetensors file")
    option("--method", required=True, metavar="NAME", help="a named method, see `rheobase methods`")
    option("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the method, such as p=99.5")
    option("--out", required=True, type=Path, help="the spiking network, a safetensors file")
    option("--seed", type=int, default=0, help="of what is random in a method (%(default)s)")
    _policy_options(add)
    _data_options(add, "TRAINING data to calibrate on", limit=512, batch=64)


def _evaluate_options(add: Parser) -> None:
    option = add.add_argument
    option("--snn", required=True, type=Path, help="what `rheobase convert` wrote")
    option("--steps", type=whole, default=32, help="time steps T (%(default)s)")
    option("--model", metavar="MODULE:FACTORY", help="the source network, for its accuracy")
    option("--weights", type=Path, help="the source network's weights, a safetensors file")
    option("--out", type=Path, help="write the curve as JSON")
    option("--plot", type=Path, help="draw accuracy against steps, as .svg, .png or .pdf")
    _data_options(add, "test data", limit=None, batch=100)


def _verify_options(add: Parser) -> None:
    _pair_options(add)
    steps = (16, 64, 256)
    add.add_argument("--steps", type=wholes, default=steps, metavar="T,T,...", help="where to look (16,64,256)")
    _data_options(add, "training or test data", limit=64, batch=64)


def _diagnose_options(add: Parser) -> None:
    _pair_options(add)
    option = add.add_argument
    option("--steps", type=whole, default=16, help="time steps T (%(default)s)")
    option("--trials", type=whole, default=3, help="layers to try a change on (%(default)s)")
    option("--out", type=Path, help="write the diagnosis as JSON")
    option("--plot", type=Path, help="draw the error of each layer, as .svg, .png or .pdf")
    _data_options(add, "training or test data", limit=64, batch=64)


def _search_options(add: Parser) -> None:
    option = add.add_argument
    option("--model", required=True, metavar="MODULE:FACTORY", help="called without arguments, makes the network")
    option("--weights", required=True, type=Path, help="its trained weights, a safetensors file")
    option("--max-drop", type=float, default=0.01, help="accuracy that may be lost, as a share (%(default)s)")
    option("--max-energy", type=float, help="energy of a sample that may be spent, in energies of the ANN")
    option("--steps", type=whole, default=8, help="time steps T at most (%(default)s)")
    option("--letters", type=whole, default=15, help="letters above 0 at most (%(default)s)")
    option("--binary", action="store_true", help="spikes of one size and sign only")
    option("--pipelined", action="store_true", help="neurons may wait for all of their input")
    option("--trials", type=whole, default=40, help="candidates to try (%(default)s)")
    option("--calibrate", type=whole, default=512, help="the first samples, to calibrate on (%(default)s)")
    option("--seed", type=int, default=0, help="of the proposals (%(default)s)")
    option("--journal", type=Path, help="a file that remembers, so that an interrupted search goes on")
    option("--test", type=Path, help="test data, on which the choice is reported once")
    option("--out", type=Path, help="the chosen spiking network, a safetensors file")
    option("--front", type=Path, help="write choice, trials and Pareto front as JSON")
    option("--plot", type=Path, help="draw the Pareto front, as .svg, .png or .pdf")
    _data_options(add, "labelled TRAINING data: the rest of it is chosen by", limit=None, batch=64)


def _pair_options(add: Parser) -> None:
    option = add.add_argument
    option("--snn", required=True, type=Path, help="what `rheobase convert` wrote")
    option("--model", required=True, metavar="MODULE:FACTORY", help="the source network, as for convert")
    option("--weights", required=True, type=Path, help="the source network's weights, a safetensors file")


def _data_options(add: Parser, what: str, limit: int | None, batch: int) -> None:
    option = add.add_argument
    option("--data", required=True, type=Path, help=f"{what}: an .npz with x and y, or a folder of images by class")
    option("--limit", type=whole, default=limit, help=f"samples to use ({limit or 'all'})")
    option("--batch", type=whole, default=batch, help="samples at a time (%(default)s)")
    option("--size", type=whole, help="scale images to this size and crop the centre square")
    option("--mean", type=numbers, help="subtracted from each channel, as in training: 0.5,0.5,0.5")
    option("--std", type=numbers, help="each channel is divided by it, as in training")


def whole(text: str) -> int:
    """A whole number from 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def wholes(text: str) -> tuple[int, ...]:
    """`16,64,256`."""
    return tuple(whole(part) for part in text.split(","))


def numbers(text: str) -> tuple[float, ...]:
    """`0.5,0.5,0.5`."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} are no numbers with commas between") from None
