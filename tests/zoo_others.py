"""U-Nets and segmentation with several answers, speech, text, volumes, and an LSTM; narrow, else complete."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_blocks import Conv2dNormActivation, Conv3dNormActivation

# --- U-Net ----------------------------------------------------------------------------------------------------------


class DoubleConv(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(channels, out, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
            nn.Conv2d(out, out, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)


class Up(nn.Module):
    """Twice as large, padded to the size of the skip connection, joined with it."""

    def __init__(self, channels: int, skip: int, out: int, bilinear: bool) -> None:
        super().__init__()
        if bilinear:
            self.up: nn.Module = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        else:
            self.up = nn.ConvTranspose2d(channels, channels, kernel_size=2, stride=2)
        self.conv = DoubleConv(channels + skip, out)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        x1 = self.up(x1)
        diffY = x2.size()[2] - x1.size()[2]
        diffX = x2.size()[3] - x1.size()[3]
        x1 = F.pad(x1, [diffX // 2, diffX - diffX // 2, diffY // 2, diffY - diffY // 2])
        x = torch.cat([x2, x1], dim=1)
        return self.conv(x)


class UNet(nn.Module):
    def __init__(self, bilinear: bool, width: int = 6, classes: int = 3) -> None:
        super().__init__()
        w = width
        self.inc = DoubleConv(3, w)
        self.down1 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(w, 2 * w))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(2 * w, 3 * w))
        self.up1 = Up(3 * w, 2 * w, 2 * w, bilinear)
        self.up2 = Up(2 * w, w, w, bilinear)
        self.outc = nn.Conv2d(w, classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x = self.up1(x3, x2)
        x = self.up2(x, x1)
        return self.outc(x)


class InterpolateUNet(nn.Module):
    """Skips in a list, `F.interpolate` to the size of each, several scales answered by name."""

    def __init__(self, channels: tuple[int, ...] = (6, 10, 14), classes: int = 3) -> None:
        super().__init__()
        before = (3, *channels[:-1])
        self.encoder = nn.ModuleList(DoubleConv(i, o) for i, o in zip(before, channels, strict=True))
        self.pool = nn.MaxPool2d(2)
        up = list(zip(channels[::-1], channels[-2::-1], strict=False))
        self.decoder = nn.ModuleList(DoubleConv(deep + skip, skip) for deep, skip in up)
        self.heads = nn.ModuleList(nn.Conv2d(skip, classes, 1) for _, skip in up)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        skips = []
        for block in self.encoder[:-1]:  # type: ignore[union-attr]
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        x = self.encoder[-1](x)
        result = {}
        for i, (block, head, skip) in enumerate(zip(self.decoder, self.heads, reversed(skips), strict=True)):
            x = F.interpolate(x, size=skip.shape[-2:], mode="nearest")
            x = block(torch.cat((x, skip), dim=1))
            result[f"scale{i}"] = head(x)
        return result


# --- DeepLab v3: an answer by name, an auxiliary one, dilated convolutions, a pooled branch -------------------------


class ASPPPooling(nn.Sequential):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()
        )

    def forward(self, input: Tensor) -> Tensor:
        x, size = input, input.shape[-2:]
        for mod in self:
            x = mod(x)
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class ASPP(nn.Module):
    def __init__(self, channels: int, rates: tuple[int, ...], out: int) -> None:
        super().__init__()
        modules: list[nn.Module] = [Conv2dNormActivation(channels, out, kernel_size=1)]
        modules += [Conv2dNormActivation(channels, out, dilation=rate) for rate in rates]
        modules.append(ASPPPooling(channels, out))
        self.convs = nn.ModuleList(modules)
        self.project = nn.Sequential(
            nn.Conv2d(len(self.convs) * out, out, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(), nn.Dropout(0.5)
        )

    def forward(self, x: Tensor) -> Tensor:
        _res = []
        for conv in self.convs:
            _res.append(conv(x))  # noqa: PERF401
        res = torch.cat(_res, dim=1)
        return self.project(res)


class FCNHead(nn.Sequential):
    def __init__(self, channels: int, out: int) -> None:
        inter = channels // 4
        super().__init__(Conv2dNormActivation(channels, inter, inplace=None), nn.Dropout(0.1), nn.Conv2d(inter, out, 1))


class IntermediateLayerGetter(nn.ModuleDict):
    """Runs layers in turn and answers those that are named."""

    def __init__(self, layers: dict[str, nn.Module], return_layers: dict[str, str]) -> None:
        super().__init__(layers)
        self.return_layers = return_layers

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        out = OrderedDict()
        for name, module in self.items():
            x = module(x)
            if name in self.return_layers:
                out[self.return_layers[name]] = x
        return out


class DeepLabV3(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        layers: dict[str, nn.Module] = {
            "stem": Conv2dNormActivation(3, 8, stride=2),
            "layer1": Conv2dNormActivation(8, 12, stride=2),
            "layer2": Conv2dNormActivation(12, 16, dilation=2),
        }
        self.backbone = IntermediateLayerGetter(layers, {"layer1": "aux", "layer2": "out"})
        self.classifier = nn.Sequential(
            ASPP(16, (1, 2), 8), Conv2dNormActivation(8, 8, inplace=None), nn.Conv2d(8, classes, 1)
        )
        self.aux_classifier = FCNHead(12, classes)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        input_shape = x.shape[-2:]
        features = self.backbone(x)
        result = OrderedDict()
        x = features["out"]
        x = self.classifier(x)
        x = F.interpolate(x, size=input_shape, mode="bilinear", align_corners=False)
        result["out"] = x
        if self.aux_classifier is not None:
            x = features["aux"]
            x = self.aux_classifier(x)
            x = F.interpolate(x, size=input_shape, mode="bilinear", align_corners=False)
            result["aux"] = x
        return result


# --- speech, text, volumes ------------------------------------------------------------------------------------------


class M5(nn.Module):
    """The network of the PyTorch tutorial on speech commands; `log` as there, its answer is a log softmax."""

    def __init__(self, log: bool, width: int = 8, classes: int = 10) -> None:
        super().__init__()
        self.log = log
        self.conv1 = nn.Conv1d(1, width, kernel_size=80, stride=16)
        self.bn1 = nn.BatchNorm1d(width)
        self.pool1 = nn.MaxPool1d(4)
        self.conv2 = nn.Conv1d(width, width, kernel_size=3)
        self.bn2 = nn.BatchNorm1d(width)
        self.pool2 = nn.MaxPool1d(4)
        self.conv3 = nn.Conv1d(width, 2 * width, kernel_size=3)
        self.bn3 = nn.BatchNorm1d(2 * width)
        self.fc1 = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = F.relu(self.bn1(x))
        x = self.pool1(x)
        x = self.conv2(x)
        x = F.relu(self.bn2(x))
        x = self.pool2(x)
        x = self.conv3(x)
        x = F.relu(self.bn3(x))
        x = F.avg_pool1d(x, x.shape[-1])
        x = x.permute(0, 2, 1)
        x = self.fc1(x)
        return F.log_softmax(x, dim=2) if self.log else x.squeeze(1)


class TextCNN(nn.Module):
    """Kim's convolutions of 3, 4 and 5 words, the maximum over time in one of three spellings."""

    def __init__(self, over_time: str, words: int = 100, dim: int = 16, filters: int = 8, classes: int = 4) -> None:
        super().__init__()
        self.over_time = over_time
        self.embedding = nn.Embedding(words, dim, padding_idx=0)
        self.convs = nn.ModuleList([nn.Conv1d(dim, filters, kernel_size=size) for size in (3, 4, 5)])
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(3 * filters, classes)

    def maximum(self, x: Tensor) -> Tensor:
        if self.over_time == "max_pool1d":
            return F.max_pool1d(x, x.shape[2]).squeeze(2)
        return x.amax(dim=2) if self.over_time == "amax" else torch.max(x, dim=2)[0]

    def forward(self, text: Tensor) -> Tensor:
        embedded = self.embedding(text)
        embedded = embedded.permute(0, 2, 1)
        conved = [F.relu(conv(embedded)) for conv in self.convs]
        pooled = [self.maximum(conv) for conv in conved]
        cat = self.dropout(torch.cat(pooled, dim=1))
        return self.fc(cat)


class C3D(nn.Module):
    """Convolutions over time, rows and columns of a short film, one of them factorised as in R(2+1)D."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.conv1 = Conv3dNormActivation(3, 6)
        self.pool1 = nn.MaxPool3d(kernel_size=(1, 2, 2), stride=(1, 2, 2))
        self.conv2 = nn.Sequential(
            nn.Conv3d(6, 10, kernel_size=(1, 3, 3), padding=(0, 1, 1), bias=False),
            nn.BatchNorm3d(10),
            nn.ReLU(inplace=True),
            nn.Conv3d(10, 12, kernel_size=(3, 1, 1), padding=(1, 0, 0), bias=False),
        )
        self.bn2 = nn.BatchNorm3d(12)
        self.relu = nn.ReLU()
        self.pool2 = nn.MaxPool3d(2)
        self.avgpool = nn.AdaptiveAvgPool3d((1, 1, 1))
        self.fc = nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.conv1(x))
        x = self.pool2(self.relu(self.bn2(self.conv2(x))))
        x = self.avgpool(x)
        x = x.flatten(1)
        return self.fc(x)


class LSTMClassifier(nn.Module):
    def __init__(self, words: int = 100, dim: int = 16, hidden: int = 16, classes: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, dim)
        self.lstm = nn.LSTM(dim, hidden, num_layers=2, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * hidden, classes)
        self.dropout = nn.Dropout(0.5)

    def forward(self, text: Tensor) -> Tensor:
        embedded = self.dropout(self.embedding(text))
        _, (hidden, _) = self.lstm(embedded)
        hidden = self.dropout(torch.cat((hidden[-2, :, :], hidden[-1, :, :]), dim=1))
        return self.fc(hidden)
