"""Fashion-MNIST by multi-threshold LIF neurons, trained from scratch at two steps: 32C5-P2-64C5-P2-1024-10.

    rheobase train mt_lif_fashion                        # 4 thresholds, 2 steps
    rheobase train mt_lif_fashion --set levels=1         # the single-threshold baseline

The network and the neuron are those of [xu2022mtlif] as we reconstruct them; batch norm, mirrored and shifted images,
the cosine and the averaged weights are our additions.
"""

from rheobase import Leak, Neuron, Rectangular, burst
from rheobase.data import FashionMNIST
from rheobase.nets import MT_LIF_FASHION
from rheobase.training import AdamW, Cosine, Crop, CrossEntropy, Mirror, Training


def recipe(levels: int = 4, steps: int = 2) -> Training:
    """levels: K thresholds. steps: T."""
    return Training(
        data=FashionMNIST(),
        net=MT_LIF_FASHION,
        neuron=Neuron(alphabet=burst(levels), leak=Leak(0.5), surrogate=Rectangular()),
        steps=steps,
        epochs=20,
        batch=128,
        optimiser=AdamW(rate=1e-3, decay=0.05),
        schedule=Cosine(warmup=1.0),
        objective=CrossEntropy(smoothing=0.1),
        augment=(Mirror(), Crop(padding=2)),
        ema=0.999,
        recompute=False,
    )
