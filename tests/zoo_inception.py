"""GoogLeNet and Inception v3: branches side by side, and the optional transform of the input; narrow, else complete."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BasicConv2d(nn.Module):
    def __init__(
        self,
        channels: int,
        out: int,
        kernel_size: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = self.bn(x)
        return F.relu(x, inplace=True)


def transform_input(x: Tensor) -> Tensor:
    """From the normalisation of torchvision to that of the TensorFlow weights."""
    x_ch0 = torch.unsqueeze(x[:, 0], 1) * (0.229 / 0.5) + (0.485 - 0.5) / 0.5
    x_ch1 = torch.unsqueeze(x[:, 1], 1) * (0.224 / 0.5) + (0.456 - 0.5) / 0.5
    x_ch2 = torch.unsqueeze(x[:, 2], 1) * (0.225 / 0.5) + (0.406 - 0.5) / 0.5
    return torch.cat((x_ch0, x_ch1, x_ch2), 1)


# --- GoogLeNet ------------------------------------------------------------------------------------------------------


class Inception(nn.Module):
    def __init__(self, channels: int, c1: int, c3red: int, c3: int, c5red: int, c5: int, pool: int) -> None:
        super().__init__()
        self.branch1 = BasicConv2d(channels, c1, kernel_size=1)
        self.branch2 = nn.Sequential(
            BasicConv2d(channels, c3red, kernel_size=1), BasicConv2d(c3red, c3, kernel_size=3, padding=1)
        )
        self.branch3 = nn.Sequential(
            BasicConv2d(channels, c5red, kernel_size=1), BasicConv2d(c5red, c5, kernel_size=3, padding=1)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(kernel_size=3, stride=1, padding=1, ceil_mode=True), BasicConv2d(channels, pool, kernel_size=1)
        )

    def _forward(self, x: Tensor) -> list[Tensor]:
        branch1 = self.branch1(x)
        branch2 = self.branch2(x)
        branch3 = self.branch3(x)
        branch4 = self.branch4(x)
        return [branch1, branch2, branch3, branch4]

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(self._forward(x), 1)


class GoogLeNet(nn.Module):
    def __init__(self, classes: int = 10, transform_input: bool = True) -> None:
        super().__init__()
        self.transform_input = transform_input
        self.conv1 = BasicConv2d(3, 8, kernel_size=7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = BasicConv2d(8, 8, kernel_size=1)
        self.conv3 = BasicConv2d(8, 12, kernel_size=3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception3a = Inception(12, 4, 6, 8, 2, 4, 4)
        self.inception3b = Inception(20, 8, 8, 12, 4, 4, 4)
        self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception4a = Inception(28, 8, 8, 12, 4, 4, 4)
        self.maxpool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.inception5a = Inception(28, 12, 8, 12, 4, 4, 4)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(p=0.2)
        self.fc = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = transform_input(x) if self.transform_input else x
        x = self.maxpool1(self.conv1(x))
        x = self.conv2(x)
        x = self.conv3(x)
        x = self.maxpool2(x)
        x = self.inception3b(self.inception3a(x))
        x = self.maxpool3(x)
        x = self.inception4a(x)
        x = self.maxpool4(x)
        x = self.inception5a(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        x = self.dropout(x)
        return self.fc(x)


# --- Inception v3 ---------------------------------------------------------------------------------------------------


class InceptionA(nn.Module):
    def __init__(self, channels: int, pool_features: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(channels, 8, kernel_size=1)
        self.branch5x5_1 = BasicConv2d(channels, 6, kernel_size=1)
        self.branch5x5_2 = BasicConv2d(6, 8, kernel_size=5, padding=2)
        self.branch3x3dbl_1 = BasicConv2d(channels, 8, kernel_size=1)
        self.branch3x3dbl_2 = BasicConv2d(8, 8, kernel_size=3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(8, 8, kernel_size=3, padding=1)
        self.branch_pool = BasicConv2d(channels, pool_features, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        branch1x1 = self.branch1x1(x)
        branch5x5 = self.branch5x5_1(x)
        branch5x5 = self.branch5x5_2(branch5x5)
        branch3x3dbl = self.branch3x3dbl_1(x)
        branch3x3dbl = self.branch3x3dbl_2(branch3x3dbl)
        branch3x3dbl = self.branch3x3dbl_3(branch3x3dbl)
        branch_pool = F.avg_pool2d(x, kernel_size=3, stride=1, padding=1)
        branch_pool = self.branch_pool(branch_pool)
        outputs = [branch1x1, branch5x5, branch3x3dbl, branch_pool]
        return torch.cat(outputs, 1)


class InceptionB(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = BasicConv2d(channels, 12, kernel_size=3, stride=2)
        self.branch3x3dbl_1 = BasicConv2d(channels, 8, kernel_size=1)
        self.branch3x3dbl_2 = BasicConv2d(8, 8, kernel_size=3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(8, 8, kernel_size=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        branch3x3 = self.branch3x3(x)
        branch3x3dbl = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        branch_pool = F.max_pool2d(x, kernel_size=3, stride=2)
        return torch.cat([branch3x3, branch3x3dbl, branch_pool], 1)


class InceptionC(nn.Module):
    """Two of the four branches are factorised into rows and columns."""

    def __init__(self, channels: int, c7: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(channels, 12, kernel_size=1)
        self.branch7x7_1 = BasicConv2d(channels, c7, kernel_size=1)
        self.branch7x7_2 = BasicConv2d(c7, c7, kernel_size=(1, 7), padding=(0, 3))
        self.branch7x7_3 = BasicConv2d(c7, 12, kernel_size=(7, 1), padding=(3, 0))
        self.branch7x7dbl_1 = BasicConv2d(channels, c7, kernel_size=1)
        self.branch7x7dbl_2 = BasicConv2d(c7, c7, kernel_size=(7, 1), padding=(3, 0))
        self.branch7x7dbl_3 = BasicConv2d(c7, 12, kernel_size=(1, 7), padding=(0, 3))
        self.branch_pool = BasicConv2d(channels, 12, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        branch1x1 = self.branch1x1(x)
        branch7x7 = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        branch7x7dbl = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        branch_pool = F.avg_pool2d(x, kernel_size=3, stride=1, padding=1)
        branch_pool = self.branch_pool(branch_pool)
        return torch.cat([branch1x1, branch7x7, branch7x7dbl, branch_pool], 1)


class InceptionE(nn.Module):
    """Branches that split once more and join before they join the others."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(channels, 12, kernel_size=1)
        self.branch3x3_1 = BasicConv2d(channels, 12, kernel_size=1)
        self.branch3x3_2a = BasicConv2d(12, 12, kernel_size=(1, 3), padding=(0, 1))
        self.branch3x3_2b = BasicConv2d(12, 12, kernel_size=(3, 1), padding=(1, 0))
        self.branch_pool = BasicConv2d(channels, 8, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        branch1x1 = self.branch1x1(x)
        branch3x3 = self.branch3x3_1(x)
        branch3x3 = torch.cat([self.branch3x3_2a(branch3x3), self.branch3x3_2b(branch3x3)], 1)
        branch_pool = F.avg_pool2d(x, kernel_size=3, stride=1, padding=1)
        branch_pool = self.branch_pool(branch_pool)
        return torch.cat([branch1x1, branch3x3, branch_pool], 1)


class InceptionAux(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv0 = BasicConv2d(channels, 8, kernel_size=1)
        self.fc = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv0(x)
        x = F.adaptive_avg_pool2d(x, (1, 1))
        return self.fc(torch.flatten(x, 1))


class Inception3(nn.Module):
    def __init__(self, classes: int = 10, transform_input: bool = True) -> None:
        super().__init__()
        self.transform_input = transform_input
        self.Conv2d_1a_3x3 = BasicConv2d(3, 6, kernel_size=3, stride=2)
        self.Conv2d_2a_3x3 = BasicConv2d(6, 6, kernel_size=3)
        self.Conv2d_2b_3x3 = BasicConv2d(6, 8, kernel_size=3, padding=1)
        self.maxpool1 = nn.MaxPool2d(kernel_size=3, stride=2)
        self.Conv2d_3b_1x1 = BasicConv2d(8, 10, kernel_size=1)
        self.Conv2d_4a_3x3 = BasicConv2d(10, 12, kernel_size=3)
        self.maxpool2 = nn.MaxPool2d(kernel_size=3, stride=2)
        self.Mixed_5b = InceptionA(12, pool_features=4)
        self.Mixed_6a = InceptionB(28)
        self.Mixed_6b = InceptionC(48, c7=8)
        self.AuxLogits = InceptionAux(48, classes)
        self.Mixed_7b = InceptionE(48)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(p=0.5)
        self.fc = nn.Linear(44, classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor | None]:
        x = transform_input(x) if self.transform_input else x
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.maxpool1(x)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = self.maxpool2(x)
        x = self.Mixed_6b(self.Mixed_6a(self.Mixed_5b(x)))
        aux = self.AuxLogits(x) if self.training else None
        x = self.avgpool(self.Mixed_7b(x))
        x = self.dropout(x)
        x = torch.flatten(x, 1)
        x = self.fc(x)
        return (x, aux) if self.training else x
