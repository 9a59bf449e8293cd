"""rheobase: low-latency spiking neural networks, by their thresholds.

*Rheobase: the smallest constant current that ever makes a neuron fire.*

    snn, report = rheobase.convert(ann, rheobase.methods.opi(), batches)
    curve = rheobase.evaluate(snn, loader, steps=32)
"""

from . import data, kernels, methods, plot, training
from .alphabet import (
    Alphabet,
    binary,
    burst,
    cascade,
    codebook,
    digits,
    minifloat,
    parallel,
    power_of_two,
    signed,
    ternary,
)
from .beta import calibrate_beta
from .candidate import Candidate
from .certificate import Certificate
from .cite import cite
from .compile import CompiledNet, compile
from .convert import ConversionReport, convert
from .correction import ChannelBias, NeuronStart, StepBias, Uncorrected
from .diagnose import diagnose
from .diagnosis import Diagnosis
from .energy import HOROWITZ, Costs
from .errors import (
    ConversionError,
    FileError,
    InputError,
    KernelError,
    MissingExtraError,
    RheobaseError,
    SpecError,
    TrainingError,
)
from .evaluate import Curve, evaluate
from .gate import Open, SentCharge, SpikeConfidence, Wait
from .initial import Half, Matched, Uniform, Zero
from .layers import IF, LIF, PLIF, MultiThresholdLIF, Population
from .leak import Decay, Leak, LearnedDecay
from .link import Differential, Rate
from .lower import lower
from .membrane import Membrane, Tensors
from .method import Method
from .modules import QCFS, Clip
from .network import SpikingNet
from .neuron import Neuron, init, rheobase, scan, step
from .predict import Prediction, calibrate_exit, predict
from .preflight import Preflight, preflight
from .readout import Delayed, EarlyExit
from .rehearsal import COS, Residual, Unrehearsed
from .relatives import ILIF, LMHT, MLF, TernarySpike
from .reset import Subtract, ToValue
from .scale import Balance, Fitted, GaussianMSE, Given, Learned, Max, MinMSE, Percentile
from .search import Choice, search
from .spec import from_json, to_json
from .spiking import folded, spiking
from .state import constant
from .store import load, save
from .surrogate import ATan, Gaussian, Polynomial, Rectangular, Sigmoid
from .threshold import (
    DTIF,
    MSAT,
    MSAT_RESNET20,
    MSAT_RESNET20_CIFAR10,
    MSAT_VGG16,
    Exponential,
    Fixed,
    Radix,
    Ramp,
    Reciprocal,
)
from .train import Trained, train
from .trainable import trainable
from .trial import Goal
from .tuning import Distilled, Untuned
from .verify import verify
from .version import VERSION as __version__

__all__ = [
    "COS",
    "DTIF",
    "HOROWITZ",
    "IF",
    "ILIF",
    "LIF",
    "LMHT",
    "MLF",
    "MSAT",
    "MSAT_RESNET20",
    "MSAT_RESNET20_CIFAR10",
    "MSAT_VGG16",
    "PLIF",
    "QCFS",
    "ATan",
    "Alphabet",
    "Balance",
    "Candidate",
    "Certificate",
    "ChannelBias",
    "Choice",
    "Clip",
    "CompiledNet",
    "ConversionError",
    "ConversionReport",
    "Costs",
    "Curve",
    "Decay",
    "Delayed",
    "Diagnosis",
    "Differential",
    "Distilled",
    "EarlyExit",
    "Exponential",
    "FileError",
    "Fitted",
    "Fixed",
    "Gaussian",
    "GaussianMSE",
    "Given",
    "Goal",
    "Half",
    "InputError",
    "KernelError",
    "Leak",
    "Learned",
    "LearnedDecay",
    "Matched",
    "Max",
    "Membrane",
    "Method",
    "MinMSE",
    "MissingExtraError",
    "MultiThresholdLIF",
    "Neuron",
    "NeuronStart",
    "Open",
    "Percentile",
    "Polynomial",
    "Population",
    "Prediction",
    "Preflight",
    "Radix",
    "Ramp",
    "Rate",
    "Reciprocal",
    "Rectangular",
    "Residual",
    "RheobaseError",
    "SentCharge",
    "Sigmoid",
    "SpecError",
    "SpikeConfidence",
    "SpikingNet",
    "StepBias",
    "Subtract",
    "Tensors",
    "TernarySpike",
    "ToValue",
    "Trained",
    "TrainingError",
    "Uncorrected",
    "Uniform",
    "Unrehearsed",
    "Untuned",
    "Wait",
    "Zero",
    "__version__",
    "binary",
    "burst",
    "calibrate_beta",
    "calibrate_exit",
    "cascade",
    "cite",
    "codebook",
    "compile",
    "constant",
    "convert",
    "data",
    "diagnose",
    "digits",
    "evaluate",
    "folded",
    "from_json",
    "init",
    "kernels",
    "load",
    "lower",
    "methods",
    "minifloat",
    "parallel",
    "plot",
    "power_of_two",
    "predict",
    "preflight",
    "rheobase",
    "save",
    "scan",
    "search",
    "signed",
    "spiking",
    "step",
    "ternary",
    "to_json",
    "train",
    "trainable",
    "training",
    "verify",
]
