"""Spoken words: train a CNN on log-mel spectrograms, convert it by each method, accuracy at T = 1..32.

    pip install rheobase[audio]
    RHEOBASE_DATA=/path/to/data python -m rheobase.recipes.speech_commands                  # asc10
    python -m rheobase.recipes.speech_commands --data speech_commands                       # Google's, 35 words

Reads `RHEOBASE_DATA/asc10` (`{train,val,test}.flac` of clips one after the other, with a csv of labels; ten words of
Arabic Speech Commands at 8 kHz), or a folder of the form of Google Speech Commands (`word/clip.wav`,
`validation_list.txt`, `testing_list.txt`). Calibration sees training clips without labels. The trained weights are kept
in `--out`, and training is skipped where they exist. Source: the task of [he2024msat].
"""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from .. import FileError
from ..data import batches, local
from ..errors import extra
from ..files import write
from ..quantise import accuracy
from .comparison import BESIDE, compare, fit, insert, parser, program, rows

BANDS = 40


class Clips(NamedTuple):
    """One second of sound each: `x` `[N, 1, bands, frames]` and the index of the word."""

    x: Tensor
    y: Tensor


class SpeechNet(nn.Module):
    """Log-mel `[N, 1, 40, frames]` to words: four convolutions with BN, ReLU and max pooling, mean, linear."""

    def __init__(self, words: int) -> None:
        super().__init__()
        widths = (1, 24, 48, 64, 96)
        self.blocks = nn.Sequential(*(self.block(a, b) for a, b in pairwise(widths)))
        self.dropout, self.head = nn.Dropout(0.3), nn.Linear(96, words)

    @staticmethod
    def block(inputs: int, outputs: int) -> nn.Sequential:
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), nn.MaxPool2d(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.blocks(x).mean((2, 3))))


def log_mel(sound: np.ndarray, rate: int) -> np.ndarray:
    """`[40, frames]`: 32 ms windows every 16 ms, natural logarithm of the mel power."""
    with extra("audio", "spectrograms need librosa"):
        import librosa
    window = int(0.032 * rate)
    mel: Any = librosa.feature.melspectrogram(y=sound, sr=rate, n_fft=window, hop_length=window // 2, n_mels=BANDS)
    return np.log(mel + 1e-6).astype(np.float32)


def read(folder: Path, split: str) -> Clips:
    """The clips of "train", "val" or "test", each normalised by its own mean and deviation."""
    packed = folder / f"{split}.flac"
    sounds, labels, rate = _packed(packed) if packed.exists() else _published(folder, split)
    x = torch.from_numpy(np.stack([log_mel(sound, rate) for sound in sounds]))[:, None]
    mean, deviation = x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True)
    return Clips((x - mean) / deviation, torch.tensor(labels))


def _packed(path: Path) -> tuple[np.ndarray, list[int], int]:
    sound, rate = _soundfile().read(path, dtype="float32")
    with path.with_suffix(".csv").open(newline="") as file:
        labels = [int(line["label"]) for line in csv.DictReader(file)]
    return sound.reshape(len(labels), -1), labels, rate


def _published(folder: Path, split: str) -> tuple[list[np.ndarray], list[int], int]:
    lists = {name: folder / f"{name}_list.txt" for name in ("validation", "testing")}
    if not all(path.exists() for path in lists.values()):
        raise FileError(
            f"{str(folder)!r} holds neither {split}.flac nor validation_list.txt and testing_list.txt",
            instead="unpack speech_commands_v0.02.tar.gz there",
        )
    held = {name: set(path.read_text().split()) for name, path in lists.items()}
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("_"))
    wanted = {"val": "validation", "test": "testing"}.get(split)
    sounds, labels, rate = [], [], 0
    for label, name in enumerate(classes):
        for file in sorted((folder / name).glob("*.wav")):
            key = f"{name}/{file.name}"
            if (key in held[wanted]) if wanted else not any(key in names for names in held.values()):
                sound, rate = _soundfile().read(file, dtype="float32")
                sounds.append(np.pad(sound, (0, max(0, rate - len(sound))))[:rate])
                labels.append(label)
    return sounds, labels, rate


def _soundfile() -> Any:
    with extra("audio", "reading sound needs soundfile"):
        import soundfile
    return soundfile


def vary(x: Tensor) -> Tensor:
    """Shifted in time by up to 10 frames, one band of up to 8 frequencies and one of up to 12 frames blanked."""
    x = torch.roll(x, int(torch.randint(-10, 11, ())), 3).clone()
    for axis, most in ((2, 8), (3, 12)):
        width = int(torch.randint(0, most + 1, ()))
        start = int(torch.randint(0, x.shape[axis] - width + 1, ()))
        x.narrow(axis, start, width).zero_()
    return x + 0.1 * torch.randn_like(x)


def trained(out: Path, train: Clips, val: Clips, seed: int, epochs: int) -> nn.Module:
    """The network, from `out` or trained and written there."""
    path, model = out / "ann.safetensors", SpeechNet(int(train.y.max()) + 1)
    if path.exists():
        model.load_state_dict(load_file(path))
        return model.eval()
    held = batches(val.x, val.y, 100)
    fit(
        model, train.x, train.y,
        epochs=epochs, rate=5e-3, seed=seed, vary=vary, validate=lambda m: accuracy(m, held), size=32,
    )  # fmt: skip
    write(path, save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}))
    return model


def main() -> None:
    asked = parser(__doc__, None)
    asked.add_argument(
        "--data", default="asc10", help="folder under RHEOBASE_DATA (%(default)s), results in evidence/DATA"
    )
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--epochs", type=int, default=40)
    asked.add_argument("--train-only", action="store_true")
    options = asked.parse_args()
    out = options.out or Path("evidence") / options.data
    if options.table:
        insert(options.table, {options.data: rows(out, BESIDE)})
        return
    folder = local(options.data)
    train = read(folder, "train")
    ann = trained(out, train, read(folder, "val"), options.seed, options.epochs)
    if options.train_only:
        return
    test = read(folder, "test")
    about = {"seed": options.seed, "epochs": options.epochs, "recipe": "speech_commands", "data": options.data}
    compare(ann, BESIDE, list(train.x[:512].split(128)), batches(test.x, test.y, 100), out, about)
    print("\n".join(rows(out, BESIDE)))


if __name__ == "__main__":
    program(main)
