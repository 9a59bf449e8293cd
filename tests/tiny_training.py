"""A training run small enough to be stopped, resumed and shared in a test: made data, a small network, every part."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import torch

from rheobase import Leak, Neuron, Rectangular, burst, evaluate, load, training
from rheobase.data import MNIST, Recordings, Samples
from rheobase.files import write_json
from rheobase.nets import Plain
from rheobase.shards import processes
from rheobase.train import Pace, Trained, train
from rheobase.training import Training


def samples(count: int = 48, seed: int = 0) -> Samples:
    """Four classes of 8 x 8 images, each bright in its own quarter."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 4
    x = torch.randint(0, 100, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    for i, label in enumerate(y.tolist()):
        row, column = 4 * (label // 2), 4 * (label % 2)
        x[i, :, row : row + 4, column : column + 4] += 120
    return Samples(x=x, y=y, classes=4, mean=(0.4,), std=(0.25,))


def recordings(steps: int = 3, count: int = 16) -> Recordings:
    still = samples(count)
    return Recordings(xs=still.x.expand(steps, *still.x.shape).clone() // 60, y=still.y, classes=4)


def config(**changes: object) -> Training:
    """Every part of a run is in it but bf16: augmentation, mixing, dropout, norm, average, pieces, held samples."""
    whole = Training(
        data=MNIST(),
        net=Plain(layers="4C3-P2-16", dropout=0.2),
        neuron=Neuron(alphabet=burst(2), leak=Leak(0.5), surrogate=Rectangular()),
        steps=2,
        epochs=3,
        batch=8,
        accumulate=2,
        optimiser=training.AdamW(rate=5e-3),
        schedule=training.Cosine(warmup=0.5),
        objective=training.CrossEntropy(smoothing=0.05),
        augment=(training.Mirror(), training.Crop(padding=1)),
        mix=training.CutMix(probability=0.3),
        ema=0.9,
        clip=1.0,
        held=8,
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def fit(out: Path, settings: Training, **options: object) -> Trained:
    return train(settings, out, data=(samples(), samples(seed=1)), **options)  # type: ignore[arg-type]


def slowly(out: Path) -> None:
    """The run of a child process: a checkpoint behind every batch, and time to be killed."""

    def wait(pace: Pace) -> None:
        time.sleep(0.02)

    torch.set_num_threads(1)
    fit(out, config(), resume=True, save_seconds=0.0, log_every=1, report=wait)


def shared(out: Path, settings: Training, rank: int, world: int, port: int) -> None:
    """One process of several that train together."""
    enter(rank, world, port)
    fit(out, settings, log_every=1)
    torch.distributed.destroy_process_group()


def evaluated(net: Path, out: Path, rank: int, world: int, port: int) -> None:
    """One process of several that evaluate a network together on batches of unlike sizes; each writes its curve."""
    enter(rank, world, port)
    curve = evaluate(load(net), uneven(), steps=5, shards=processes())
    write_json(out / f"{rank}.json", curve.to_json())
    torch.distributed.destroy_process_group()


def uneven() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Seven batches of different sizes."""
    x, y = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(5)), torch.arange(60) % 4
    sizes = [9, 1, 20, 3, 12, 8, 7]
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


def enter(rank: int, world: int, port: int) -> None:
    """The surroundings of one process of several, as `accelerate launch` sets them up."""
    torch.set_num_threads(1)
    os.environ |= {
        "ACCELERATE_USE_CPU": "true",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
