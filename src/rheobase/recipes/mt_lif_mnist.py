"""MNIST by multi-threshold LIF neurons, trained from scratch at two steps: 15C5-P2-40C5-P2-300-10.

    rheobase train mt_lif_mnist                          # 4 thresholds, 2 steps
    rheobase train mt_lif_mnist --set levels=1           # the single-threshold baseline
    rheobase train mt_lif_mnist --set levels=8 steps=1 start=0.5   # rounded activations

The network and the neuron are those of [xu2022mtlif] as we reconstruct them: thresholds V, 2V, ..., KV with V = 1,
decay 0.5, soft reset, rectangular derivative. Batch norm, the small turns and shifts of the images, the cosine and the
averaged weights are our additions.
"""

from rheobase import Leak, Neuron, Rectangular, burst
from rheobase.data import MNIST
from rheobase.nets import MT_LIF_MNIST
from rheobase.training import AdamW, Cosine, CrossEntropy, Jitter, Training


def recipe(levels: int = 4, steps: int = 2) -> Training:
    """levels: K thresholds. steps: T."""
    return Training(
        data=MNIST(),
        net=MT_LIF_MNIST,
        neuron=Neuron(alphabet=burst(levels), leak=Leak(0.5), surrogate=Rectangular()),
        steps=steps,
        epochs=10,
        batch=128,
        optimiser=AdamW(rate=2e-3, decay=0.01),
        schedule=Cosine(warmup=1.0),
        objective=CrossEntropy(smoothing=0.05),
        augment=(Jitter(degrees=10.0, scale=0.1, shift=2.0),),
        ema=0.999,
        recompute=False,
    )
