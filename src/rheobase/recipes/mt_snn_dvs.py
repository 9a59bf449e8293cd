"""Recordings of an event camera by multi-threshold PLIF neurons: four frames of 50 ms each.

    rheobase train mt_snn_dvs                            # recordings in RHEOBASE_DATA/dvs_objects/session_A.npz
    rheobase train mt_snn_dvs --set public=true          # DVS-CIFAR10 through tonic, ten frames; a task for a GPU

The windows of a recording are split by time with a gap, never at random. The neuron is that of [wang2023mtsnn] as we
reconstruct it; the network and the settings of the training are ours.
"""

from rheobase import ATan, LearnedDecay, Neuron, Subtract, parallel
from rheobase.data import DVSCIFAR10, ByTime, LocalRecordings
from rheobase.nets import EVENTS, VGG11
from rheobase.training import TET, AdamW, Cosine, Crop, Training


def recipe(levels: int = 4, steps: int = 4, public: bool = False) -> Training:
    """levels: n parts of the threshold. steps: T frames of a sample. public: DVS-CIFAR10 instead of a local file."""
    return Training(
        data=DVSCIFAR10(cut=ByTime(steps)) if public else LocalRecordings(cut=ByTime(steps)),
        net=VGG11 if public else EVENTS,
        neuron=Neuron(alphabet=parallel(levels), leak=LearnedDecay(2.0), reset=Subtract(detach=True), surrogate=ATan()),
        threshold=1.0 / levels,
        steps=steps,
        epochs=60 if public else 30,
        batch=32,
        optimiser=AdamW(rate=2e-3, decay=0.05),
        schedule=Cosine(warmup=1.0),
        objective=TET(smoothing=0.1),
        augment=(Crop(padding=4),),
        ema=0.99,
    )
