"""The frugal convolutional networks: MobileNet v2 and v3, EfficientNet, ShuffleNet v2; narrow, else complete."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from zoo_blocks import Conv2dNormActivation, Make, SqueezeExcitation, StochasticDepth

# --- MobileNet v2 ---------------------------------------------------------------------------------------------------


class InvertedResidual(nn.Module):
    def __init__(self, channels: int, out: int, stride: int, expand_ratio: int) -> None:
        super().__init__()
        hidden = round(channels * expand_ratio)
        self.use_res_connect = stride == 1 and channels == out
        layers: list[nn.Module] = []
        if expand_ratio != 1:
            layers.append(Conv2dNormActivation(channels, hidden, kernel_size=1, activation_layer=nn.ReLU6))
        layers.extend(
            [
                Conv2dNormActivation(hidden, hidden, stride=stride, groups=hidden, activation_layer=nn.ReLU6),
                nn.Conv2d(hidden, out, 1, 1, 0, bias=False),
                nn.BatchNorm2d(out),
            ]
        )
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        if self.use_res_connect:
            return x + self.conv(x)
        else:
            return self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        setting = [(1, 4, 1, 1), (4, 6, 2, 2), (4, 8, 2, 2), (4, 12, 1, 1)]
        channels = 8
        features: list[nn.Module] = [Conv2dNormActivation(3, channels, stride=2, activation_layer=nn.ReLU6)]
        for t, c, n, s in setting:
            for i in range(n):
                features.append(InvertedResidual(channels, c, s if i == 0 else 1, expand_ratio=t))
                channels = c
        features.append(Conv2dNormActivation(channels, 32, kernel_size=1, activation_layer=nn.ReLU6))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(p=0.2), nn.Linear(32, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = nn.functional.adaptive_avg_pool2d(x, (1, 1))
        x = torch.flatten(x, 1)
        return self.classifier(x)


# --- MobileNet v3 ---------------------------------------------------------------------------------------------------


class InvertedResidualV3(nn.Module):
    def __init__(self, channels: int, kernel: int, expanded: int, out: int, se: bool, hs: bool, stride: int) -> None:
        super().__init__()
        self.use_res_connect = stride == 1 and channels == out
        activation: Make = nn.Hardswish if hs else nn.ReLU
        norm = partial(nn.BatchNorm2d, eps=0.001)
        layers: list[nn.Module] = []
        if expanded != channels:
            layers.append(Conv2dNormActivation(channels, expanded, 1, norm_layer=norm, activation_layer=activation))
        layers.append(
            Conv2dNormActivation(
                expanded, expanded, kernel, stride, groups=expanded, norm_layer=norm, activation_layer=activation
            )
        )
        if se:
            layers.append(SqueezeExcitation(expanded, max(4, expanded // 4), scale_activation=nn.Hardsigmoid))
        layers.append(Conv2dNormActivation(expanded, out, 1, norm_layer=norm, activation_layer=None))
        self.block = nn.Sequential(*layers)

    def forward(self, input: Tensor) -> Tensor:
        result = self.block(input)
        if self.use_res_connect:
            result += input
        return result


class MobileNetV3(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            Conv2dNormActivation(3, 8, stride=2, activation_layer=nn.Hardswish),
            InvertedResidualV3(8, 3, 8, 8, True, False, 2),
            InvertedResidualV3(8, 3, 24, 12, False, False, 2),
            InvertedResidualV3(12, 3, 32, 12, False, False, 1),
            InvertedResidualV3(12, 5, 32, 16, True, True, 2),
            InvertedResidualV3(16, 5, 40, 16, True, True, 1),
            Conv2dNormActivation(16, 48, kernel_size=1, activation_layer=nn.Hardswish),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(48, 48), nn.Hardswish(inplace=True), nn.Dropout(p=0.2, inplace=True), nn.Linear(48, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        return self.classifier(x)


# --- EfficientNet ---------------------------------------------------------------------------------------------------


class MBConv(nn.Module):
    def __init__(
        self, channels: int, out: int, kernel: int, stride: int, expand_ratio: int, stochastic_depth: float, norm: Make
    ) -> None:
        super().__init__()
        self.use_res_connect = stride == 1 and channels == out
        layers: list[nn.Module] = []
        expanded = channels * expand_ratio
        if expanded != channels:
            layers.append(Conv2dNormActivation(channels, expanded, 1, norm_layer=norm, activation_layer=nn.SiLU))
        layers.append(
            Conv2dNormActivation(
                expanded, expanded, kernel, stride, groups=expanded, norm_layer=norm, activation_layer=nn.SiLU
            )
        )
        squeeze = max(1, channels // 4)
        layers.append(SqueezeExcitation(expanded, squeeze, activation=partial(nn.SiLU, inplace=True)))
        layers.append(Conv2dNormActivation(expanded, out, kernel_size=1, norm_layer=norm, activation_layer=None))
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = StochasticDepth(stochastic_depth, "row")

    def forward(self, input: Tensor) -> Tensor:
        result = self.block(input)
        if self.use_res_connect:
            result = self.stochastic_depth(result)
            result += input
        return result


class EfficientNet(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)
        setting = [(1, 3, 1, 8, 1), (4, 3, 2, 8, 2), (4, 5, 2, 12, 2), (4, 5, 1, 16, 1)]
        channels = 8
        layers: list[nn.Module] = [
            Conv2dNormActivation(3, channels, stride=2, norm_layer=norm, activation_layer=nn.SiLU)
        ]
        for ratio, kernel, stride, out, count in setting:
            stage = []
            for i in range(count):
                stage.append(MBConv(channels, out, kernel, stride if i == 0 else 1, ratio, 0.2, norm))
                channels = out
            layers.append(nn.Sequential(*stage))
        layers.append(Conv2dNormActivation(channels, 48, kernel_size=1, norm_layer=norm, activation_layer=nn.SiLU))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(p=0.2, inplace=True), nn.Linear(48, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        return self.classifier(x)


# --- ShuffleNet v2 --------------------------------------------------------------------------------------------------


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    batchsize, num_channels, height, width = x.size()
    channels_per_group = num_channels // groups
    x = x.view(batchsize, groups, channels_per_group, height, width)
    x = torch.transpose(x, 1, 2).contiguous()
    return x.view(batchsize, num_channels, height, width)


class ShuffleUnit(nn.Module):
    def __init__(self, inp: int, oup: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        features = oup // 2
        self.branch1 = nn.Sequential()
        if self.stride > 1:
            self.branch1 = nn.Sequential(
                self.depthwise_conv(inp, inp, kernel_size=3, stride=self.stride, padding=1),
                nn.BatchNorm2d(inp),
                nn.Conv2d(inp, features, kernel_size=1, stride=1, padding=0, bias=False),
                nn.BatchNorm2d(features),
                nn.ReLU(inplace=True),
            )
        self.branch2 = nn.Sequential(
            nn.Conv2d(inp if self.stride > 1 else features, features, kernel_size=1, stride=1, padding=0, bias=False),
            nn.BatchNorm2d(features),
            nn.ReLU(inplace=True),
            self.depthwise_conv(features, features, kernel_size=3, stride=self.stride, padding=1),
            nn.BatchNorm2d(features),
            nn.Conv2d(features, features, kernel_size=1, stride=1, padding=0, bias=False),
            nn.BatchNorm2d(features),
            nn.ReLU(inplace=True),
        )

    @staticmethod
    def depthwise_conv(i: int, o: int, kernel_size: int, stride: int = 1, padding: int = 0) -> nn.Conv2d:
        return nn.Conv2d(i, o, kernel_size, stride, padding, bias=False, groups=i)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            x1, x2 = x.chunk(2, dim=1)
            out = torch.cat((x1, self.branch2(x2)), dim=1)
        else:
            out = torch.cat((self.branch1(x), self.branch2(x)), dim=1)
        return channel_shuffle(out, 2)


class ShuffleNetV2(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.stage2: nn.Module
        self.stage3: nn.Module
        self.stage4: nn.Module
        channels = 8
        for name, repeats, out in (("stage2", 2, 16), ("stage3", 3, 24), ("stage4", 2, 32)):
            units = [ShuffleUnit(channels, out, 2), *(ShuffleUnit(out, out, 1) for _ in range(repeats - 1))]
            setattr(self, name, nn.Sequential(*units))
            channels = out
        self.conv5 = nn.Sequential(
            nn.Conv2d(channels, 48, 1, 1, 0, bias=False), nn.BatchNorm2d(48), nn.ReLU(inplace=True)
        )
        self.fc = nn.Linear(48, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = self.maxpool(x)
        x = self.stage2(x)
        x = self.stage3(x)
        x = self.stage4(x)
        x = self.conv5(x)
        x = x.mean([2, 3])
        return self.fc(x)
