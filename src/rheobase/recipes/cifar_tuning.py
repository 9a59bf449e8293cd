"""CIFAR-10 by a converted ResNet-20 that is trained on at two steps with four thresholds; minutes on a CPU.

    python -m rheobase.recipes.cifar_tuning              # convert the published network: resnet20-k4-t2.safetensors
    rheobase train cifar_tuning                          # and go on with it: weights, thresholds and starts

The conversion is that of `methods.fitted`, with neurons that never wait and send no negative letters. Reads `cifar10/`
and `pretrained/cifar10_resnet20.safetensors` under RHEOBASE_DATA. Settings are ours.
"""

from rheobase import Fitted, Matched, Method, Neuron, burst, convert, save
from rheobase.data import CIFAR10, cifar10
from rheobase.recipes.cifar_conversion import network
from rheobase.recipes.comparison import program
from rheobase.training import AdamW, Cosine, Crop, CrossEntropy, Mirror, Saved, Training

LEVELS, STEPS = 4, 2
START = f"resnet20-k{LEVELS}-t{STEPS}.safetensors"


def recipe() -> Training:
    return Training(
        data=CIFAR10(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        net=Saved(START),
        neuron=Neuron(alphabet=burst(LEVELS)),
        steps=STEPS,
        epochs=2,
        batch=64,
        optimiser=AdamW(rate=3e-4, decay=1e-4),
        schedule=Cosine(warmup=0.1),
        objective=CrossEntropy(),
        augment=(Mirror(), Crop(padding=2)),
        recompute=False,
    )


def main() -> None:
    train, _ = cifar10("train", limit=512)
    method = Method(scale=Fitted(LEVELS * STEPS), initial=Matched(), alphabet=burst(LEVELS))
    save(START, convert(network("resnet20"), method, list(train.split(128)))[0])
    print(f"wrote {START}")


if __name__ == "__main__":
    program(main)
