"""ImageNet by a ResNet-34 of multi-threshold PLIF neurons at one step, 224 x 224.

    rheobase train mt_snn_imagenet                       # RHEOBASE_DATA/imagenet/{train,val}/<class>/*.JPEG
    accelerate launch -m rheobase.cli train mt_snn_imagenet

[wang2023mtsnn] reports 72.17 % for a PLIF ResNet-34 at one step. Which residuals it had is unknown; SEW is our choice,
and so are the settings of the training.
"""

from rheobase import ATan, LearnedDecay, Neuron, Subtract, parallel
from rheobase.data import ImageNet
from rheobase.nets import MS, SEW, SpikingResNet
from rheobase.training import SGD, Cosine, CrossEntropy, Mirror, Training


def recipe(levels: int = 4, steps: int = 1, depth: int = 34, potentials: bool = False) -> Training:
    """levels: n parts of the threshold. steps: T. potentials: MS residuals instead of SEW."""
    return Training(
        data=ImageNet(size=224),
        net=SpikingResNet(depth=depth, residual=MS() if potentials else SEW()),
        neuron=Neuron(alphabet=parallel(levels), leak=LearnedDecay(2.0), reset=Subtract(detach=True), surrogate=ATan()),
        threshold=1.0 / levels,
        steps=steps,
        epochs=120,
        batch=512,
        optimiser=SGD(rate=0.2, decay=5e-5),
        schedule=Cosine(warmup=5.0),
        objective=CrossEntropy(smoothing=0.1),
        augment=(Mirror(),),
        bf16=True,
    )
