"""One plain loop: data, network, objective, step, save. Accelerate runs it on one process or on many."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .data import Source
from .errors import FileError, InputError, TrainingError, context, extra
from .files import sweep, write_json
from .network import SpikingNet
from .store import load, save
from .training import optimiser, snapshot
from .training.chance import number
from .training.config import Training
from .training.ema import Average
from .training.feed import Feed, check_source, divided
from .training.journal import Journal
from .training.model import architecture, built, copied, deployed, first_bad
from .training.score import accuracy, result
from .training.snapshot import Place


class Pace(NamedTuple):
    """Where a run is: epoch and batch from 1, the mean loss of the epoch, samples and seconds left at this speed."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    per_second: float
    remaining: float


class Trained(NamedTuple):
    """What a run leaves: the network as it is deployed, where the run stood, accuracy after 1..T steps by split."""

    net: SpikingNet
    place: Place
    accuracy: dict[str, list[float]]


def train(
    config: Training,
    out: str | Path,
    *,
    data: tuple[Source, Source] | None = None,
    net: SpikingNet | None = None,
    resume: bool = False,
    save_seconds: float = 60.0,
    log_every: int = 50,
    report: Callable[[Pace], None] | None = None,
) -> Trained:
    """Train a network as `config` says, in the folder `out`.

    data: sources for training and testing instead of those of `config`. net: a network to go on with, such as a
    converted one, instead of a new one. resume: go on from `out/last.safetensors` if it is there; killed at any moment
    and resumed, a run ends with the same weights, on a CPU bit for bit. save_seconds: how often it is written within
    an epoch. log_every: batches between rows of the log. Writes `last.safetensors`, `log.jsonl`, `tensorboard/`, with
    held samples `best.safetensors`, and in the end `snn.safetensors`, the network that `rheobase.load` reads, and
    `result.json` with its accuracy and its cost on the test data.

    Raises InputError for data that do not fit, FileError for a folder with another run, TrainingError for a loss that
    is no number, which leaves the last checkpoint as it was.
    """
    with context("train"):
        last = Path(out) / "last.safetensors"
        if last.exists() and not resume:
            raise FileError(
                f"{str(out)!r} holds a run already",
                why="it would be lost",
                instead="resume=True to go on with it (--resume), or another folder",
            )
        given, test = data or (config.data.read("train"), config.data.read("test"))
        check_source(given, config, "training")
        check_source(test, config, "test")
        if given.classes != test.classes or given.shape != test.shape:
            raise InputError(
                f"the training data are {given.shape} of {given.classes} classes, "
                f"the test data {test.shape} of {test.classes}",
                why="both must be of the same kind",
            )
        run = Run(config, Path(out), *divided(given, config.held), net=net, log_every=log_every)
        run.begin(last if last.exists() else None)
        for epoch in range(run.place.epoch, config.epochs):
            run.epoch(epoch, save_seconds, report)
        return run.finish(test)


class Run:
    """A run while it runs: what `train` puts together, one method for each of its stages."""

    def __init__(
        self,
        config: Training,
        out: Path,
        source: Source,
        held: Source | None,
        *,
        net: SpikingNet | None,
        log_every: int,
    ) -> None:
        self.config, self.out, self.held, self.log_every = config, out, held, log_every
        self.accelerator = _accelerator(config)
        self.feed = Feed(source, config, self.accelerator.process_index, self.accelerator.num_processes)
        self.net = (net or built(config, source)).train()
        self.architecture = architecture(self.net)
        self.optimiser = config.optimiser.made(self.net)
        self.average = Average(self.net, config.ema) if config.ema else None
        self.place = Place()

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    def begin(self, last: Path | None) -> None:
        """From a checkpoint, or from the start."""
        if self.accelerator.is_main_process:
            for name in ("last.safetensors", "best.safetensors", "snn.safetensors", "result.json"):
                sweep(self.out / name)
        if last is not None:
            self.place, parts = snapshot.load(last, self.config, self.architecture)
            self.net.load_state_dict(parts["net"])
            optimiser.restore(self.optimiser, parts.get("optimiser", {}))
            if self.average is not None:
                self.average.restore(parts["average"])
        self.model, self.stepper = self.accelerator.prepare(self.net, self.optimiser)
        if self.average is not None:
            self.average.to(self.device)
        self.journal = Journal(self.out, self.place.step) if self.accelerator.is_main_process else None

    def epoch(self, epoch: int, save_seconds: float, report: Callable[[Pace], None] | None) -> None:
        """What is left of an epoch, with its row in the log and its checkpoint."""
        started = saved = time.monotonic()
        before, seconds, batches = self.place.batch, self.place.seconds, self.feed.batches
        for xs, target in self.feed.epoch(epoch, before, self.device):
            loss = self.step(xs, target)
            done = self.place.batch + 1
            now = time.monotonic()
            self.place = self.place._replace(
                step=self.place.step + 1, batch=done, loss=self.place.loss + loss, seconds=seconds + now - started
            )
            if done % self.log_every == 0:
                self.note({"loss": loss, "rate": self.rate})
            if report is not None:
                speed = (done - before) / max(now - started, 1e-9)
                left = (batches - done + batches * (self.config.epochs - epoch - 1)) / speed
                mean = self.place.loss / done
                report(Pace(epoch + 1, self.config.epochs, done, batches, mean, speed * self.config.batch, left))
            if now - saved > save_seconds and done < batches:
                self.sound()
                self.save()
                saved = time.monotonic()
        self.sound()
        row = {"epoch": epoch + 1, "mean_loss": self.place.loss / batches, "rate": self.rate}
        row |= self.choose(epoch) | {"seconds": self.place.seconds}
        self.place = self.place._replace(epoch=epoch + 1, batch=0, loss=0.0)
        self.note(row)
        self.save()

    def step(self, xs: Tensor, target: Tensor) -> float:
        """One step of the optimiser on this process's share of a batch, in pieces; the mean loss of all processes."""
        config, place, total = self.config, self.place, torch.zeros((), device=self.device)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate
        size = len(target) // config.accumulate
        for piece, (x, y) in enumerate(zip(xs.split(size, 1), target.split(size), strict=True)):
            self.seed(piece)
            with self.accelerator.accumulate(self.model):
                ys, _ = self.model(x)
                loss = config.objective(ys.float(), y)
                total += loss.detach()
                if not bool(torch.isfinite(loss)):
                    self.stop("loss", x, piece)
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.net.parameters(), config.clip or math.inf)
                    if not bool(torch.isfinite(torch.as_tensor(norm))):
                        self.stop("gradient", x, piece)
                self.stepper.step()
                self.stepper.zero_grad()
        if self.average is not None:
            self.average.update(self.net, place.step + 1)
        return float(self.accelerator.reduce(total, "mean")) / config.accumulate

    def seed(self, piece: int) -> None:
        """Dropout as a function of (seed, epoch, batch, piece, process)."""
        place = self.place
        torch.manual_seed(number(self.config.seed, "drop", place.epoch, place.batch, piece, self.feed.rank))

    @property
    def rate(self) -> float:
        """The rate of this step, a function of the step alone."""
        done = self.place.step / self.feed.batches
        return self.config.optimiser.rate * self.config.schedule(done, self.config.epochs)

    def stop(self, what: str, xs: Tensor, piece: int) -> None:
        """Say where a number first is none; the last checkpoint stays as it is."""
        self.seed(piece)
        layer = first_bad(self.net, xs)
        place = self.place
        raise self.lost(f"{what} is", f"(epoch {place.epoch + 1}, batch {place.batch + 1}); {layer}", place.step + 1)

    def lost(self, what: str, where: str, step: int) -> TrainingError:
        """What is said of a run that cannot go on."""
        return TrainingError(
            f"the {what} no number at step {step} {where}",
            why="the network has run away, or the data hold such numbers",
            instead=f"a smaller rate or clip=1.0; {self.out / 'last.safetensors'} is the state before, if it is there",
        )

    def sound(self) -> None:
        """Refuse to keep or to judge weights that a last step has made no numbers."""
        for name, value in self.net.state_dict().items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise self.lost(
                    "weights are", f"(epoch {self.place.epoch + 1}); {name!r} is the first", self.place.step
                )

    def choose(self, epoch: int) -> dict[str, float]:
        """The accuracy on the held samples; the best network so far is kept."""
        if self.held is None:
            return {}
        found = float(accuracy(self.judged(), self.held, self.config.steps, self.device)[-1])
        if found > self.place.best:
            self.place = self.place._replace(best=found, best_epoch=epoch + 1)
            if self.accelerator.is_main_process:
                save(self.out / "best.safetensors", deployed(self.judged(), self.config))
        return {"held_accuracy": found}

    def judged(self) -> SpikingNet:
        """A copy of the network with the averaged weights if there are any."""
        return copied(self.net, self.average.tensors if self.average is not None else None)

    def note(self, row: dict[str, Any]) -> None:
        """A row of the log, of one process."""
        if self.journal is not None:
            self.journal.add({"step": self.place.step} | row)

    def save(self) -> None:
        """The checkpoint from which this very run goes on."""
        if self.accelerator.is_main_process:
            average = {"average": self.average.tensors} if self.average is not None else {}
            parts = {"net": self.net.state_dict(), "optimiser": optimiser.tensors(self.optimiser), **average}
            snapshot.save(self.out / "last.safetensors", self.config, self.architecture, self.place, parts)

    def finish(self, test: Source) -> Trained:
        """The chosen network, written and tried once on the test data."""
        if self.journal is not None:
            self.journal.close()
        best = self.out / "best.safetensors"
        net = load(best) if self.held is not None and best.exists() else deployed(self.judged(), self.config)
        net = net.to(self.device)
        if self.accelerator.is_main_process:
            save(self.out / "snn.safetensors", net)
        splits = {"test": test} | ({"held": self.held} if self.held is not None else {})
        steps = self.config.steps
        found = {name: accuracy(net, source, steps, self.device).tolist() for name, source in splits.items()}
        if self.accelerator.is_main_process:
            about = {"accuracy": found, "training": self.place._asdict(), "processes": self.accelerator.num_processes}
            write_json(self.out / "result.json", result(net, test, self.config) | about)
        return Trained(net, self.place, found)


def _accelerator(config: Training) -> Any:
    with extra("train", "training needs accelerate"):
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    AcceleratorState._reset_state()  # a second run in one process may want another precision
    return Accelerator(mixed_precision="bf16" if config.bf16 else "no", gradient_accumulation_steps=config.accumulate)
