"""CIFAR-10 by parallel multi-threshold PLIF neurons, trained from scratch: a VGG-11 or a ResNet-18 at one step.

    rheobase train mt_snn_cifar10                        # VGG-11, 4 thresholds, 1 step; a task for a GPU
    rheobase train mt_snn_cifar10 --set deep=true        # ResNet-18 with spiking residuals

The neuron is that of [wang2023mtsnn] as we reconstruct it: the threshold 1 in n equal parts, one learned leak a layer
that starts at tau = 2, an ATan derivative, the reset detached. The settings of the training are ours.
"""

from rheobase import ATan, LearnedDecay, Neuron, Subtract, parallel
from rheobase.data import CIFAR10
from rheobase.nets import SEW, VGG11, SpikingResNet
from rheobase.training import SGD, Cosine, Crop, CrossEntropy, CutMix, Mirror, RandAugment, Training


def recipe(levels: int = 4, steps: int = 1, deep: bool = False) -> Training:
    """levels: n parts of the threshold. steps: T. deep: a ResNet-18 instead of a VGG-11."""
    return Training(
        data=CIFAR10(),
        net=SpikingResNet(depth=18, residual=SEW()) if deep else VGG11,
        neuron=Neuron(alphabet=parallel(levels), leak=LearnedDecay(2.0), reset=Subtract(detach=True), surrogate=ATan()),
        threshold=1.0 / levels,
        steps=steps,
        epochs=200,
        batch=128,
        optimiser=SGD(rate=0.1, decay=5e-4),
        schedule=Cosine(warmup=5.0),
        objective=CrossEntropy(smoothing=0.1),
        augment=(Mirror(), Crop(padding=4), RandAugment(count=1, magnitude=5.0)),
        mix=CutMix(probability=0.5),
        bf16=True,
    )
