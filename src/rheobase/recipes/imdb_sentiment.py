"""Sentiment of film reviews: train a text CNN on IMDB, convert it by each method, accuracy at T = 1..16.

    RHEOBASE_DATA=/path/to/data python -m rheobase.recipes.imdb_sentiment

Reads `RHEOBASE_DATA/imdb`: the published folders (`aclImdb/train/pos/*.txt` ...), or `train.tsv.xz` and `test.tsv.xz`
with `label, rating, id, text` in each line. Training takes the first 22,500 reviews in a fixed random order, the rest
validates; calibration sees 512 training reviews without labels. The trained weights are kept in `--out`, and training
is skipped where they exist. Results that exist are kept. Source: [maas2011imdb], the task of [he2024msat].
"""

from __future__ import annotations

import json
import lzma
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ..data import batches, local
from ..files import write, write_json
from ..quantise import accuracy
from .comparison import BESIDE, SHOWN, compare, fit, insert, parser, program, rows

WORDS, LENGTH, TRAINING = 12_000, 256, 22_500
STEPS = 16
UNKNOWN = 1  # 0 pads


class SentimentNet(nn.Module):
    """Tokens `[N, 256]` to 2 classes: embedding, three convolutions over time with BN, ReLU and max pooling, linear."""

    def __init__(self, words: int = WORDS) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, 64, padding_idx=0)
        self.spread = nn.Dropout(0.4)
        widths = (64, 96, 96, 96)
        self.blocks = nn.Sequential(*(self.block(a, b) for a, b in pairwise(widths)))
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(96, 2)

    @staticmethod
    def block(inputs: int, outputs: int) -> nn.Sequential:
        conv = nn.Conv1d(inputs, outputs, 5, padding=2, bias=False)
        return nn.Sequential(conv, nn.BatchNorm1d(outputs), nn.ReLU(inplace=True), nn.MaxPool1d(4))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.spread(self.embedding(tokens)).transpose(1, 2)
        return self.head(self.dropout(self.blocks(x).amax(2)))


def reviews(split: str) -> tuple[list[str], Tensor]:
    """The texts and labels (0 negative, 1 positive) of "train" or "test", in a fixed random order."""
    root = local("imdb")
    packed = root / f"{split}.tsv.xz"
    if packed.exists():
        with lzma.open(packed, "rt", encoding="utf8") as file:
            lines = [line.rstrip("\n").split("\t", 3) for line in file]
        return [line[3] for line in lines], torch.tensor([int(line[0]) for line in lines])
    folders = [root / "aclImdb" / split / name for name in ("neg", "pos")]
    files = [(file, label) for label, folder in enumerate(folders) for file in sorted(folder.glob("*.txt"))]
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0)).tolist()
    return [files[k][0].read_text(encoding="utf8") for k in order], torch.tensor([files[k][1] for k in order])


def words(text: str) -> list[str]:
    """Lower-case words and marks of a review."""
    return re.findall(r"[a-z']+|[!?.]", text.lower().replace("<br />", " "))


def vocabulary(texts: list[str]) -> dict[str, int]:
    """The most frequent words by number, from 2 on."""
    counts = Counter(word for text in texts for word in words(text))
    return {word: k + 2 for k, (word, _) in enumerate(counts.most_common(WORDS - 2))}


def tokens(texts: list[str], numbers: dict[str, int]) -> Tensor:
    """`[N, LENGTH]`: the beginning and the end of each review, where its verdict is; short ones padded with 0."""
    found = torch.zeros(len(texts), LENGTH, dtype=torch.int64)
    for row, text in zip(found, texts, strict=True):
        known = [numbers.get(word, UNKNOWN) for word in words(text)]
        kept = known if len(known) <= LENGTH else known[: LENGTH // 4] + known[-(LENGTH - LENGTH // 4) :]
        row[: len(kept)] = torch.tensor(kept)
    return found


def trained(out: Path, x: Tensor, y: Tensor, seed: int, epochs: int) -> nn.Module:
    """The network, from `out` or trained and written there."""
    path, model = out / "ann.safetensors", SentimentNet()
    if path.exists():
        model.load_state_dict(load_file(path))
        return model.eval()
    held = batches(x[TRAINING:], y[TRAINING:], 250)

    def hide(x: Tensor) -> Tensor:
        return torch.where(torch.rand(x.shape) < 0.1, UNKNOWN, x)

    fit(
        model, x[:TRAINING], y[:TRAINING],
        epochs=epochs, rate=2e-3, seed=seed, vary=hide, validate=lambda m: accuracy(m, held), decay=0.05,
    )  # fmt: skip
    write(path, save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}))
    return model


def table(out: Path) -> Iterator[str]:
    """The results as a Markdown table."""
    return rows(out, BESIDE, SHOWN[:-1], STEPS)


def main() -> None:
    asked = parser(__doc__, Path("evidence/imdb"))
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--epochs", type=int, default=5)
    asked.add_argument("--limit", type=int, help="the first test reviews only, for a quick look")
    asked.add_argument("--train-only", action="store_true")
    options = asked.parse_args()
    if options.table:
        insert(options.table, {"imdb": table(options.out)})
        return
    texts, y = reviews("train")
    numbers = vocabulary(texts[:TRAINING])
    x = tokens(texts, numbers)
    write_json(options.out / "words.json", numbers)
    ann = trained(options.out, x, y, options.seed, options.epochs)
    if options.train_only:
        return
    texts, y_test = reviews("test")
    loader = batches(tokens(texts[: options.limit], numbers), y_test[: options.limit], 200)
    about = {"seed": options.seed, "epochs": options.epochs, "recipe": "imdb_sentiment"}
    compare(ann, BESIDE, list(x[:512].split(128)), loader, options.out, about, STEPS)
    print(json.dumps(about), "\n".join(table(options.out)), sep="\n")


if __name__ == "__main__":
    program(main)
