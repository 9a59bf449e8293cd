"""What to cite: the BibTeX of everything a method uses, collected from its parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from .alphabet import Alphabet
from .correction import ChannelBias, NeuronStart, StepBias
from .energy import Costs
from .gate import SentCharge, SpikeConfidence, Wait
from .initial import Half, Matched
from .leak import LearnedDecay
from .link import Differential
from .method import Method
from .methods import DIRECT, NAMED, named
from .rehearsal import COS, Residual
from .reset import Subtract
from .scale import Balance, GaussianMSE, Learned, Max, MinMSE, Percentile
from .surrogate import ATan, Gaussian, Polynomial, Rectangular, Sigmoid
from .threshold import DTIF, MSAT, Fixed, Radix
from .tuning import Distilled

Entry = tuple[str, dict[str, str]]

ENTRIES: dict[str, Entry] = {
    "amir2017gesture": (
        "inproceedings",
        {
            "author": "Amir, Arnon and Taba, Brian and Berg, David and Melano, Timothy and others",
            "title": "A Low Power, Fully Event-Based Gesture Recognition System",
            "booktitle": "IEEE Conference on Computer Vision and Pattern Recognition",
            "year": "2017",
            "doi": "10.1109/CVPR.2017.781",
        },
    ),
    "bengio2013estimating": (
        "misc",
        {
            "author": "Bengio, Yoshua and L{\\'e}onard, Nicholas and Courville, Aaron",
            "title": "Estimating or Propagating Gradients Through Stochastic Neurons for Conditional Computation",
            "year": "2013",
            "eprint": "1308.3432",
        },
    ),
    "bu2022opi": (
        "inproceedings",
        {
            "author": "Bu, Tong and Ding, Jianhao and Yu, Zhaofei and Huang, Tiejun",
            "title": "Optimized Potential Initialization for Low-Latency Spiking Neural Networks",
            "booktitle": "Proceedings of the AAAI Conference on Artificial Intelligence",
            "volume": "36",
            "number": "1",
            "pages": "11--20",
            "year": "2022",
            "doi": "10.1609/aaai.v36i1.19874",
            "eprint": "2202.01440",
        },
    ),
    "bu2022qcfs": (
        "inproceedings",
        {
            "author": "Bu, Tong and Fang, Wei and Ding, Jianhao and Dai, PengLin and Yu, Zhaofei and Huang, Tiejun",
            "title": "Optimal {ANN-SNN} Conversion for High-accuracy and Ultra-low-latency Spiking Neural Networks",
            "booktitle": "International Conference on Learning Representations",
            "year": "2022",
            "eprint": "2303.04347",
        },
    ),
    "cubuk2020randaugment": (
        "inproceedings",
        {
            "author": "Cubuk, Ekin D. and Zoph, Barret and Shlens, Jonathon and Le, Quoc V.",
            "title": "{RandAugment}: Practical Automated Data Augmentation with a Reduced Search Space",
            "booktitle": "IEEE/CVF Conference on Computer Vision and Pattern Recognition Workshops",
            "year": "2020",
            "eprint": "1909.13719",
        },
    ),
    "deng2009imagenet": (
        "inproceedings",
        {
            "author": "Deng, Jia and Dong, Wei and Socher, Richard and Li, Li-Jia and Li, Kai and Fei-Fei, Li",
            "title": "{ImageNet}: A Large-Scale Hierarchical Image Database",
            "booktitle": "IEEE Conference on Computer Vision and Pattern Recognition",
            "year": "2009",
            "doi": "10.1109/CVPR.2009.5206848",
        },
    ),
    "deng2022tet": (
        "inproceedings",
        {
            "author": "Deng, Shikuang and Li, Yuhang and Zhang, Shanghang and Gu, Shi",
            "title": "Temporal Efficient Training of Spiking Neural Network via Gradient Re-weighting",
            "booktitle": "International Conference on Learning Representations",
            "year": "2022",
            "eprint": "2202.11946",
        },
    ),
    "diehl2015balancing": (
        "inproceedings",
        {
            "author": "Diehl, Peter U. and Neil, Daniel and Binas, Jonathan and Cook, Matthew and Liu, Shih-Chii "
            "and Pfeiffer, Michael",
            "title": "Fast-Classifying, High-Accuracy Spiking Deep Networks Through Weight and Threshold Balancing",
            "booktitle": "International Joint Conference on Neural Networks",
            "year": "2015",
            "doi": "10.1109/IJCNN.2015.7280696",
        },
    ),
    "fang2021sew": (
        "inproceedings",
        {
            "author": "Fang, Wei and Yu, Zhaofei and Chen, Yanqi and Huang, Tiejun and Masquelier, Timoth\\'{e}e "
            "and Tian, Yonghong",
            "title": "Deep Residual Learning in Spiking Neural Networks",
            "booktitle": "Advances in Neural Information Processing Systems",
            "year": "2021",
            "eprint": "2102.04159",
        },
    ),
    "he2024msat": (
        "article",
        {
            "author": "He, Xiang and Li, Yang and Zhao, Dongcheng and Kong, Qingqun and Zeng, Yi",
            "title": "{MSAT}: Biologically Inspired Multi-Stage Adaptive Threshold for Conversion of Spiking Neural "
            "Networks",
            "journal": "Neural Computing and Applications",
            "volume": "36",
            "number": "15",
            "pages": "8531--8547",
            "year": "2024",
            "eprint": "2303.13080",
        },
    ),
    "hinton2015distilling": (
        "misc",
        {
            "author": "Hinton, Geoffrey and Vinyals, Oriol and Dean, Jeff",
            "title": "Distilling the Knowledge in a Neural Network",
            "year": "2015",
            "eprint": "1503.02531",
        },
    ),
    "ho2021tcl": (
        "inproceedings",
        {
            "author": "Ho, Nguyen-Dong and Chang, Ik-Joon",
            "title": "{TCL}: an {ANN}-to-{SNN} Conversion with Trainable Clipping Layers",
            "booktitle": "{ACM/IEEE} Design Automation Conference",
            "year": "2021",
            "eprint": "2008.04509",
        },
    ),
    "horowitz2014energy": (
        "inproceedings",
        {
            "author": "Horowitz, Mark",
            "title": "1.1 Computing's Energy Problem (and What We Can Do About It)",
            "booktitle": "{IEEE} International Solid-State Circuits Conference Digest of Technical Papers",
            "pages": "10--14",
            "year": "2014",
            "doi": "10.1109/ISSCC.2014.6757323",
        },
    ),
    "hu2024ms": (
        "article",
        {
            "author": "Hu, Yifan and Deng, Lei and Wu, Yujie and Yao, Man and Li, Guoqi",
            "title": "Advancing Spiking Neural Networks Toward Deep Residual Learning",
            "journal": "IEEE Transactions on Neural Networks and Learning Systems",
            "year": "2024",
            "eprint": "2112.08954",
        },
    ),
    "lecun1998gradient": (
        "article",
        {
            "author": "LeCun, Yann and Bottou, Leon and Bengio, Yoshua and Haffner, Patrick",
            "title": "Gradient-Based Learning Applied to Document Recognition",
            "journal": "Proceedings of the IEEE",
            "volume": "86",
            "number": "11",
            "pages": "2278--2324",
            "year": "1998",
            "doi": "10.1109/5.726791",
        },
    ),
    "li2017cifardvs": (
        "article",
        {
            "author": "Li, Hongmin and Liu, Hanchao and Ji, Xiangyang and Li, Guoqi and Shi, Luping",
            "title": "{CIFAR10-DVS}: An Event-Stream Dataset for Object Classification",
            "journal": "Frontiers in Neuroscience",
            "volume": "11",
            "pages": "309",
            "year": "2017",
            "doi": "10.3389/fnins.2017.00309",
        },
    ),
    "li2023seenn": (
        "inproceedings",
        {
            "author": "Li, Yuhang and Geller, Tamar and Kim, Youngeun and Panda, Priyadarshini",
            "title": "{SEENN}: Towards Temporal Spiking Early-Exit Neural Networks",
            "booktitle": "Advances in Neural Information Processing Systems",
            "year": "2023",
        },
    ),
    "akiba2019optuna": (
        "inproceedings",
        {
            "author": "Akiba, Takuya and Sano, Shotaro and Yanase, Toshihiko and Ohta, Takeru and Koyama, Masanori",
            "title": "Optuna: A Next-generation Hyperparameter Optimization Framework",
            "booktitle": "{ACM SIGKDD} International Conference on Knowledge Discovery and Data Mining",
            "year": "2019",
            "eprint": "1907.10902",
        },
    ),
    "angelopoulos2021ltt": (
        "article",
        {
            "author": "Angelopoulos, Anastasios N. and Bates, Stephen and Cand{\\`e}s, Emmanuel J. and "
            "Jordan, Michael I. and Lei, Lihua",
            "title": "Learn then Test: Calibrating Predictive Algorithms to Achieve Risk Control",
            "journal": "arXiv preprint arXiv:2110.01052",
            "year": "2021",
        },
    ),
    "lloyd1982least": (
        "article",
        {
            "author": "Lloyd, Stuart P.",
            "title": "Least Squares Quantization in {PCM}",
            "journal": "IEEE Transactions on Information Theory",
            "volume": "28",
            "number": "2",
            "pages": "129--137",
            "year": "1982",
            "doi": "10.1109/TIT.1982.1056489",
        },
    ),
    "loshchilov2017sgdr": (
        "inproceedings",
        {
            "author": "Loshchilov, Ilya and Hutter, Frank",
            "title": "{SGDR}: Stochastic Gradient Descent with Warm Restarts",
            "booktitle": "International Conference on Learning Representations",
            "year": "2017",
            "eprint": "1608.03983",
        },
    ),
    "maas2011imdb": (
        "inproceedings",
        {
            "author": "Maas, Andrew L. and Daly, Raymond E. and Pham, Peter T. and Huang, Dan and Ng, Andrew Y. and "
            "Potts, Christopher",
            "title": "Learning Word Vectors for Sentiment Analysis",
            "booktitle": "Annual Meeting of the Association for Computational Linguistics",
            "year": "2011",
        },
    ),
    "krizhevsky2009cifar": (
        "techreport",
        {
            "author": "Krizhevsky, Alex",
            "title": "Learning Multiple Layers of Features from Tiny Images",
            "institution": "University of Toronto",
            "year": "2009",
        },
    ),
    "li2022burst": (
        "inproceedings",
        {
            "author": "Li, Yang and Zeng, Yi",
            "title": "Efficient and Accurate Conversion of Spiking Neural Network with Burst Spikes",
            "booktitle": "Proceedings of the Thirty-First International Joint Conference on Artificial Intelligence",
            "pages": "2485--2491",
            "year": "2022",
            "doi": "10.24963/ijcai.2022/345",
            "eprint": "2204.13271",
        },
    ),
    "orchard2015nmnist": (
        "article",
        {
            "author": "Orchard, Garrick and Jayawant, Ajinkya and Cohen, Gregory K. and Thakor, Nitish",
            "title": "Converting Static Image Datasets to Spiking Neuromorphic Datasets Using Saccades",
            "journal": "Frontiers in Neuroscience",
            "volume": "9",
            "pages": "437",
            "year": "2015",
            "doi": "10.3389/fnins.2015.00437",
        },
    ),
    "rueckauer2017conversion": (
        "article",
        {
            "author": "Rueckauer, Bodo and Lungu, Iulia-Alexandra and Hu, Yuhuang and Pfeiffer, Michael "
            "and Liu, Shih-Chii",
            "title": "Conversion of Continuous-Valued Deep Networks to Efficient Event-Driven Networks for Image "
            "Classification",
            "journal": "Frontiers in Neuroscience",
            "volume": "11",
            "pages": "682",
            "year": "2017",
            "doi": "10.3389/fnins.2017.00682",
        },
    ),
    "shrikumar2017learning": (
        "inproceedings",
        {
            "author": "Shrikumar, Avanti and Greenside, Peyton and Kundaje, Anshul",
            "title": "Learning Important Features Through Propagating Activation Differences",
            "booktitle": "International Conference on Machine Learning",
            "pages": "3145--3153",
            "year": "2017",
            "eprint": "1704.02685",
        },
    ),
    "steele2014splitmix": (
        "inproceedings",
        {
            "author": "Steele, Jr., Guy L. and Lea, Doug and Flood, Christine H.",
            "title": "Fast Splittable Pseudorandom Number Generators",
            "booktitle": "Proceedings of the {ACM} International Conference on Object Oriented Programming Systems "
            "Languages and Applications",
            "pages": "453--472",
            "year": "2014",
            "doi": "10.1145/2660193.2660195",
        },
    ),
    "wu2018stbp": (
        "article",
        {
            "author": "Wu, Yujie and Deng, Lei and Li, Guoqi and Zhu, Jun and Shi, Luping",
            "title": "Spatio-Temporal Backpropagation for Training High-Performance Spiking Neural Networks",
            "journal": "Frontiers in Neuroscience",
            "volume": "12",
            "pages": "331",
            "year": "2018",
            "doi": "10.3389/fnins.2018.00331",
        },
    ),
    "fang2021plif": (
        "inproceedings",
        {
            "author": "Fang, Wei and Yu, Zhaofei and Chen, Yanqi and Masquelier, Timoth{\\'e}e and Huang, Tiejun and "
            "Tian, Yonghong",
            "title": "Incorporating Learnable Membrane Time Constant to Enhance Learning of Spiking Neural Networks",
            "booktitle": "Proceedings of the {IEEE/CVF} International Conference on Computer Vision",
            "year": "2021",
            "eprint": "2007.05785",
        },
    ),
    "xu2022mtlif": (
        "article",
        {
            "author": "Xu, Changqing and Liu, Yi and Chen, Dongdong and Yang, Yintang",
            "title": "Direct Training via Backpropagation for Ultra-Low-Latency Spiking Neural Networks with "
            "Multi-Threshold",
            "journal": "Symmetry",
            "volume": "14",
            "number": "9",
            "pages": "1933",
            "year": "2022",
            "eprint": "2112.07426",
        },
    ),
    "wang2023mtsnn": (
        "article",
        {
            "author": "Wang, Xiaoting and Zhang, Yanxiang",
            "title": "{MT-SNN}: Enhance Spiking Neural Network with Multiple Thresholds",
            "journal": "arXiv preprint",
            "year": "2023",
            "eprint": "2303.11127",
        },
    ),
    "ioffe2015batchnorm": (
        "inproceedings",
        {
            "author": "Ioffe, Sergey and Szegedy, Christian",
            "title": "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
            "booktitle": "International Conference on Machine Learning",
            "year": "2015",
            "eprint": "1502.03167",
        },
    ),
    "feng2022mlf": (
        "inproceedings",
        {
            "author": "Feng, Lang and Liu, Qianhui and Tang, Huajin and Ma, De and Pan, Gang",
            "title": "Multi-Level Firing with Spiking {DS-ResNet}: Enabling Better and Deeper Directly-Trained "
            "Spiking Neural Networks",
            "booktitle": "Proceedings of the Thirty-First International Joint Conference on Artificial Intelligence",
            "year": "2022",
            "eprint": "2210.06386",
        },
    ),
    "hao2024lmht": (
        "inproceedings",
        {
            "author": "Hao, Zecheng and Shi, Xinyu and Liu, Yujia and Yu, Zhaofei and Huang, Tiejun",
            "title": "{LM-HT SNN}: Enhancing the Performance of {SNN} to {ANN} Counterpart through Learnable "
            "Multi-hierarchical Threshold Model",
            "booktitle": "Advances in Neural Information Processing Systems",
            "year": "2024",
            "eprint": "2402.00411",
        },
    ),
    "luo2024ilif": (
        "inproceedings",
        {
            "author": "Luo, Xinhao and Yao, Man and Chou, Yuhong and Xu, Bo and Li, Guoqi",
            "title": "Integer-Valued Training and Spike-Driven Inference Spiking Neural Network for High-performance "
            "and Energy-efficient Object Detection",
            "booktitle": "European Conference on Computer Vision",
            "year": "2024",
            "eprint": "2407.20708",
        },
    ),
    "guo2024ternary": (
        "inproceedings",
        {
            "author": "Guo, Yufei and Chen, Yuanpei and Liu, Xiaode and Peng, Weihang and Zhang, Yuhan and Huang, "
            "Xuhui and Ma, Zhe",
            "title": "Ternary Spike: Learning Ternary Spikes for Spiking Neural Networks",
            "booktitle": "Proceedings of the AAAI Conference on Artificial Intelligence",
            "year": "2024",
            "eprint": "2312.06372",
        },
    ),
    "wu2023dtif": (
        "article",
        {
            "author": "Wu, Xiyan and Zhao, Yufei and Song, Yong and Jiang, Yurong and Bai, Yashuo and Li, Xinyi "
            "and Zhou, Ya and Yang, Xin and Hao, Qun",
            "title": "Dynamic Threshold Integrate and Fire Neuron Model for Low Latency Spiking Neural Networks",
            "journal": "Neurocomputing",
            "volume": "544",
            "pages": "126247",
            "year": "2023",
            "doi": "10.1016/j.neucom.2023.126247",
        },
    ),
    "wang2022snm": (
        "inproceedings",
        {
            "author": "Wang, Yuchen and Zhang, Malu and Chen, Yi and Qu, Hong",
            "title": "Signed Neuron with Memory: Towards Simple, Accurate and High-Efficient ANN-SNN Conversion",
            "booktitle": "Proceedings of the Thirty-First International Joint Conference on Artificial Intelligence",
            "pages": "2501--2508",
            "year": "2022",
            "doi": "10.24963/ijcai.2022/347",
        },
    ),
    "xiao2017fashion": (
        "article",
        {
            "author": "Xiao, Han and Rasul, Kashif and Vollgraf, Roland",
            "title": "{Fashion-MNIST}: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
            "journal": "arXiv preprint",
            "year": "2017",
            "eprint": "1708.07747",
        },
    ),
    "you2024spikezip": (
        "inproceedings",
        {
            "author": "You, Kang and Xu, Zekai and Nie, Chen and Deng, Zhijie and Guo, Qinghai and Wang, Xiang "
            "and He, Zhezhi",
            "title": "{SpikeZIP-TF}: Conversion is All You Need for Transformer-based {SNN}",
            "booktitle": "International Conference on Machine Learning",
            "year": "2024",
            "eprint": "2406.03470",
        },
    ),
    "li2021calibration": (
        "inproceedings",
        {
            "author": "Li, Yuhang and Deng, Shikuang and Dong, Xin and Gong, Ruihao and Gu, Shi",
            "title": "A Free Lunch From {ANN}: Towards Efficient, Accurate Spiking Neural Networks Calibration",
            "booktitle": "International Conference on Machine Learning",
            "year": "2021",
            "eprint": "2106.06984",
        },
    ),
    "rouhani2023microscaling": (
        "misc",
        {
            "author": "Rouhani, Bita Darvish and Zhao, Ritchie and More, Ankit and Hall, Mathew and others",
            "title": "Microscaling Data Formats for Deep Learning",
            "year": "2023",
            "eprint": "2310.10537",
        },
    ),
    "huang2025differential": (
        "inproceedings",
        {
            "author": "Huang, Zihan and Fang, Wei and Bu, Tong and Xue, Peng and Hao, Zecheng and Liu, Wenxuan and "
            "Tang, Yuanhong and Yu, Zhaofei and Huang, Tiejun",
            "title": "Differential Coding for Training-Free {ANN}-to-{SNN} Conversion",
            "booktitle": "International Conference on Machine Learning",
            "pages": "25235--25264",
            "year": "2025",
            "eprint": "2503.00301",
        },
    ),
    "hao2023srp": (
        "inproceedings",
        {
            "author": "Hao, Zecheng and Bu, Tong and Ding, Jianhao and Huang, Tiejun and Yu, Zhaofei",
            "title": "Reducing {ANN-SNN} Conversion Error through Residual Membrane Potential",
            "booktitle": "Proceedings of the AAAI Conference on Artificial Intelligence",
            "year": "2023",
            "eprint": "2302.02091",
        },
    ),
    "hao2023cos": (
        "inproceedings",
        {
            "author": "Hao, Zecheng and Ding, Jianhao and Bu, Tong and Huang, Tiejun and Yu, Zhaofei",
            "title": "Bridging the Gap between {ANNs} and {SNNs} by Calibrating Offset Spikes",
            "booktitle": "International Conference on Learning Representations",
            "year": "2023",
            "eprint": "2302.10685",
        },
    ),
    "hao2025parallel": (
        "inproceedings",
        {
            "author": "Hao, Zecheng and Ma, Qichao and Chen, Kang and Zhang, Yi and Yu, Zhaofei and Huang, Tiejun",
            "title": "Faster and Stronger: When {ANN-SNN} Conversion Meets Parallel Spiking Calculation",
            "booktitle": "International Conference on Machine Learning",
            "year": "2025",
            "eprint": "2412.13610",
        },
    ),
    "bu2025inference": (
        "inproceedings",
        {
            "author": "Bu, Tong and Li, Maohua and Yu, Zhaofei",
            "title": "Inference-Scale Complexity in {ANN-SNN} Conversion for High-Performance and Low-Power "
            "Applications",
            "booktitle": "Proceedings of the {IEEE/CVF} Conference on Computer Vision and Pattern Recognition",
            "year": "2025",
            "eprint": "2409.03368",
        },
    ),
    "wu2024ftbc": (
        "inproceedings",
        {
            "author": "Wu, Xiaofeng and Bojkovic, Velibor and Gu, Bin and Suo, Kun and Zou, Kai",
            "title": "{FTBC}: Forward Temporal Bias Correction for Optimizing {ANN-SNN} Conversion",
            "booktitle": "European Conference on Computer Vision",
            "pages": "155--173",
            "year": "2024",
            "doi": "10.1007/978-3-031-72890-7_10",
            "eprint": "2403.18388",
        },
    ),
    "wang2024radix": (
        "article",
        {
            "author": "Wang, Zhehui and Gu, Xiaozhe and Goh, Rick Siow Mong and Zhou, Joey Tianyi and Luo, Tao",
            "title": "Efficient Spiking Neural Networks With Radix Encoding",
            "journal": "IEEE Transactions on Neural Networks and Learning Systems",
            "volume": "35",
            "number": "3",
            "pages": "3689--3701",
            "year": "2024",
            "doi": "10.1109/TNNLS.2022.3195918",
            "eprint": "2105.06943",
        },
    ),
    "kim2018weighted": (
        "article",
        {
            "author": "Kim, Jaehyun and Kim, Heesu and Huh, Subin and Lee, Jinho and Choi, Kiyoung",
            "title": "Deep Neural Networks with Weighted Spikes",
            "journal": "Neurocomputing",
            "volume": "311",
            "pages": "373--386",
            "year": "2018",
        },
    ),
    "yun2019cutmix": (
        "inproceedings",
        {
            "author": "Yun, Sangdoo and Han, Dongyoon and Oh, Seong Joon and Chun, Sanghyuk and Choe, Junsuk "
            "and Yoo, Youngjoon",
            "title": "{CutMix}: Regularization Strategy to Train Strong Classifiers with Localizable Features",
            "booktitle": "IEEE/CVF International Conference on Computer Vision",
            "year": "2019",
            "eprint": "1905.04899",
        },
    ),
}
"""Key -> (kind, fields). A field that we could not make sure of is left out."""

SOURCES: list[tuple[Callable[[Any], bool], tuple[str, ...]]] = [
    (lambda part: isinstance(part, Half), ("bu2022opi",)),
    (lambda part: isinstance(part, Learned), ("bu2022qcfs", "ho2021tcl")),
    (lambda part: isinstance(part, Max), ("diehl2015balancing",)),
    (lambda part: isinstance(part, (Percentile, Subtract)), ("rueckauer2017conversion",)),
    (lambda part: isinstance(part, MSAT) or (isinstance(part, Fixed) and part.gain != 1), ("he2024msat",)),
    (lambda part: isinstance(part, SpikeConfidence), ("he2024msat", "steele2014splitmix")),
    (lambda part: isinstance(part, DTIF), ("wu2023dtif",)),
    (lambda part: isinstance(part, Radix), ("wang2024radix", "kim2018weighted")),
    (lambda part: isinstance(part, Alphabet) and len(part.levels) > 1, ("li2022burst",)),
    (lambda part: isinstance(part, Alphabet) and repr(part).startswith("codebook"), ("lloyd1982least",)),
    (lambda part: isinstance(part, Alphabet) and repr(part).startswith("minifloat"), ("rouhani2023microscaling",)),
    (lambda part: isinstance(part, Alphabet) and repr(part).startswith("power_of_two"), ("huang2025differential",)),
    (lambda part: isinstance(part, Alphabet) and part.signed, ("wang2022snm",)),
    (lambda part: isinstance(part, Alphabet) and part.floor, ("you2024spikezip",)),
    (lambda part: isinstance(part, SentCharge), ("wang2022snm",)),
    (lambda part: isinstance(part, (MinMSE, Matched, ChannelBias, NeuronStart)), ("li2021calibration",)),
    (lambda part: isinstance(part, Distilled), ("hinton2015distilling", "bengio2013estimating")),
    (lambda part: isinstance(part, StepBias), ("wu2024ftbc",)),
    (lambda part: isinstance(part, GaussianMSE), ("huang2025differential",)),
    (lambda part: isinstance(part, Balance), ("bu2025inference",)),
    (lambda part: isinstance(part, Differential), ("huang2025differential",)),
    (lambda part: isinstance(part, Residual), ("hao2023srp",)),
    (lambda part: isinstance(part, COS), ("hao2023cos",)),
    (lambda part: isinstance(part, Wait), ("hao2025parallel",)),
    (lambda part: isinstance(part, Costs), ("horowitz2014energy",)),
    (lambda part: isinstance(part, Alphabet) and part.greedy, ("wang2023mtsnn",)),
    (lambda part: isinstance(part, (Rectangular, Polynomial, Gaussian, Sigmoid)), ("wu2018stbp",)),
    (lambda part: isinstance(part, (ATan, LearnedDecay)), ("fang2021plif",)),
]
"""Which part comes from where: (predicate, keys)."""


def cite(subject: Method | Costs | str) -> str:
    """BibTeX of everything a method uses, or a cost table, or a named method with its own source first.

    Raises SpecError for a name that no method has.

    >>> import rheobase as rb
    >>> print(bibtex(keys(rb.Half())))
    @inproceedings{bu2022opi,
      author = {Bu, Tong and Ding, Jianhao and Yu, Zhaofei and Huang, Tiejun},
      title = {Optimized Potential Initialization for Low-Latency Spiking Neural Networks},
      booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
      volume = {36},
      number = {1},
      pages = {11--20},
      year = {2022},
      doi = {10.1609/aaai.v36i1.19874},
      eprint = {2202.01440},
      archiveprefix = {arXiv},
    }
    """
    return bibtex(keys(subject))


def keys(subject: Any) -> tuple[str, ...]:
    """The keys of `cite(subject)`, each once: a name's own source first, then those of the parts in order."""
    method = named(subject) if isinstance(subject, str) else subject
    own = cited_in((NAMED | DIRECT)[subject].__doc__ or "") if isinstance(subject, str) else []
    found = [key for part in _parts(method) for holds, keys in SOURCES if holds(part) for key in keys]
    return tuple(dict.fromkeys([*own, *found]))


def cited_in(text: str) -> list[str]:
    """The keys that a docstring cites, written `[bu2022opi]`."""
    return re.findall(r"\[([a-z]+\d{4}[a-z]+)\]", text)


def bibtex(keys: Iterable[str]) -> str:
    """The entries of `keys`, one blank line between two."""
    return "\n\n".join(_entry(key, *ENTRIES[key]) for key in keys)


def _entry(key: str, kind: str, values: dict[str, str]) -> str:
    values = values | ({"archiveprefix": "arXiv"} if "eprint" in values else {})
    return "\n".join([f"@{kind}{{{key},", *(f"  {name} = {{{value}}}," for name, value in values.items()), "}"])


def _parts(spec: Any) -> Iterator[Any]:
    """A spec and every spec inside it."""
    if is_dataclass(spec):
        yield spec
        for field in fields(spec):
            yield from _parts(getattr(spec, field.name))
