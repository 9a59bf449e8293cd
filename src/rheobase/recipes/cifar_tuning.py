"""CIFAR-10 by a converted ResNet-20 that is trained on at two steps of binary spikes; minutes on a CPU.

    python -m rheobase.recipes.cifar_tuning              # convert the published network: resnet20-t2.safetensors
    rheobase train cifar_tuning                          # and go on with it: weights, thresholds and starts

The conversion is that of `methods.fitted` for two steps, without its waiting: integrate-and-fire neurons that fire in
the step. Reads `cifar10/` and `pretrained/cifar10_resnet20.safetensors` under RHEOBASE_DATA. Settings are ours.
"""

from dataclasses import replace

from rheobase import Open, convert, methods, save
from rheobase.data import CIFAR10, cifar10
from rheobase.recipes.cifar_conversion import network
from rheobase.recipes.comparison import program
from rheobase.training import AdamW, Cosine, Crop, CrossEntropy, Mirror, Saved, Training

START = "resnet20-t2.safetensors"


def recipe(steps: int = 2) -> Training:
    """steps: T, for which the network was converted."""
    return Training(
        data=CIFAR10(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        net=Saved(START),
        steps=steps,
        epochs=2,
        batch=64,
        optimiser=AdamW(rate=1e-3, decay=1e-4),
        schedule=Cosine(warmup=0.1),
        objective=CrossEntropy(smoothing=0.1),
        augment=(Mirror(), Crop(padding=2)),
        recompute=False,
    )


def main() -> None:
    train, _ = cifar10("train", limit=512)
    method = replace(methods.fitted(recipe().steps, 1), gate=Open())
    save(START, convert(network("resnet20"), method, list(train.split(128)))[0])
    print(f"wrote {START}")


if __name__ == "__main__":
    program(main)
