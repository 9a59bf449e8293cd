"""CIFAR-10 by multi-threshold LIF neurons, trained from scratch: 96C3-256C3-P2-384C3-P2-384C3-256C3-1024-1024-10.

    rheobase train mt_lif_cifar10                        # 4 thresholds, 2 steps; a task for a GPU
    accelerate launch -m rheobase.cli train mt_lif_cifar10

The network and the neuron are those of [xu2022mtlif] as we reconstruct them; batch norm, the augmentation, the cosine
and the averaged weights are our additions.
"""

from rheobase import Leak, Neuron, Rectangular, burst
from rheobase.data import CIFAR10
from rheobase.nets import MT_LIF_CIFAR10
from rheobase.training import AdamW, Cosine, Crop, CrossEntropy, Cutout, Mirror, Training


def recipe(levels: int = 4, steps: int = 2) -> Training:
    """levels: K thresholds. steps: T."""
    return Training(
        data=CIFAR10(),
        net=MT_LIF_CIFAR10,
        neuron=Neuron(alphabet=burst(levels), leak=Leak(0.5), surrogate=Rectangular()),
        steps=steps,
        epochs=150,
        batch=128,
        optimiser=AdamW(rate=1e-3, decay=0.05),
        schedule=Cosine(warmup=5.0),
        objective=CrossEntropy(smoothing=0.1),
        augment=(Mirror(), Crop(padding=4), Cutout(size=8)),
        ema=0.999,
        bf16=True,
    )
