"""The networks of the study's subjects, and the residual networks the importer is checked with.

Plain modules whose parameter names are those of the weight files they are loaded from. Only LeNet5 ends in a
softmax: the study's Keras model does.
"""

from typing import Dict, List, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class LeNet5(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 3)
        self.fc1 = nn.Linear(144, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def logits(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 3)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        x = functional.relu(self.fc1(x))
        x = functional.relu(self.fc2(x))
        return self.fc3(x)

    def forward(self, x: Tensor) -> Tensor:
        return functional.softmax(self.logits(x), dim=1)


class PaddedShortcutBlock(nn.Module):
    """Two 3x3 convolutions; where the width grows the shortcut drops every second pixel and pads channels
    with zeros, so it has no weights."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.missing = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride != 1:
            x = functional.pad(x[:, :, ::2, ::2], [0, 0, 0, 0, self.missing, self.missing])
        return functional.relu(y + x)


class CifarResNet(nn.Module):
    """He et al. 2016, section 4.2: 6n+2 layers of width 16, 32, 64 on 32x32 images."""

    def __init__(self, blocks: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1)
        self.layer2 = self._stage(16, 32, blocks, 2)
        self.layer3 = self._stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        first = PaddedShortcutBlock(inputs, outputs, stride)
        return nn.Sequential(first, *(PaddedShortcutBlock(outputs, outputs, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1)
        return self.linear(x)


class Vgg16(nn.Module):
    """The CIFAR form: thirteen convolutions with batch norm, three dense layers."""

    WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # 0 = pooling

    def __init__(self):
        super().__init__()
        layers: List[nn.Module] = []
        inputs = 3
        for width in self.WIDTHS:
            if width == 0:
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                inputs = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.5),
                                        nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


class ProjectedShortcutBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return functional.relu(y + self.shortcut(x))


class ResNet18(nn.Module):
    """The form for 32x32 images: 3x3 stem without pooling."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        blocks = []
        inputs = 64
        for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            blocks += [ProjectedShortcutBlock(inputs, outputs, stride), ProjectedShortcutBlock(outputs, outputs, 1)]
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(functional.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


class FaceNet(nn.Module):
    """The study's eleven-layer face network: four convolutions with pooling, two dense layers, 64x64 input."""

    def __init__(self):
        super().__init__()
        layers: List[nn.Module] = []
        inputs = 3
        for width in (32, 64, 128, 128):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            inputs = width
        self.features = nn.Sequential(*layers)
        self.fc1 = nn.Linear(2048, 128)
        self.fc2 = nn.Linear(128, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(self.features(x), 1)
        return self.fc2(functional.relu(self.fc1(x)))


class DenseLayer(nn.Module):
    """Bottleneck of 1x1 and 3x3 convolution over everything the block has made so far."""

    def __init__(self, inputs: int, growth: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, features: List[Tensor]) -> Tensor:
        x = self.conv1(functional.relu(self.norm1(torch.cat(features, 1))))
        return self.conv2(functional.relu(self.norm2(x)))


class DenseBlock(nn.ModuleDict):
    def __init__(self, layers: int, inputs: int, growth: int):
        super().__init__({f"denselayer{i + 1}": DenseLayer(inputs + i * growth, growth) for i in range(layers)})

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.values():
            features.append(layer(features))
        return torch.cat(features, 1)


class Transition(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(self.conv(functional.relu(self.norm(x))), 2)


class DenseNet121(nn.Module):
    """Huang et al. 2017: growth 32, blocks of 6, 12, 24, 16; parameter names as torchvision's."""

    GROWTH = 32

    def __init__(self):
        super().__init__()
        parts: Dict[str, nn.Module] = {
            "conv0": nn.Conv2d(3, 64, 7, 2, 3, bias=False), "norm0": nn.BatchNorm2d(64), "relu0": nn.ReLU(),
            "pool0": nn.MaxPool2d(3, 2, 1)}
        width = 64
        for number, layers in enumerate((6, 12, 24, 16), start=1):
            parts[f"denseblock{number}"] = DenseBlock(layers, width, self.GROWTH)
            width += layers * self.GROWTH
            if number < 4:
                parts[f"transition{number}"] = Transition(width, width // 2)
                width //= 2
        parts["norm5"] = nn.BatchNorm2d(width)
        self.features = nn.Sequential()
        for name, part in parts.items():
            self.features.add_module(name, part)
        self.classifier = nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.features(x))
        return self.classifier(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


# Name -> (what makes the module, shape C,H,W of its input).
ARCHITECTURES: Dict[str, Tuple] = {
    "lenet5": (LeNet5, (1, 28, 28)),
    "resnet20": (lambda: CifarResNet(3), (3, 32, 32)),
    "resnet32": (lambda: CifarResNet(5), (3, 32, 32)),
    "resnet44": (lambda: CifarResNet(7), (3, 32, 32)),
    "resnet56": (lambda: CifarResNet(9), (3, 32, 32)),
    "vgg16": (Vgg16, (3, 32, 32)),
    "resnet18": (ResNet18, (3, 32, 32)),
    "facenet": (FaceNet, (3, 64, 64)),
    "densenet121": (DenseNet121, (3, 224, 224)),
}


def randomise(model: nn.Module, seed: int) -> None:
    """Random weights from the seed alone: what PyTorch draws by default, and batch norm with statistics
    and scales that differ from channel to channel, so that a mix-up of channels shows."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):  # pylint: disable=protected-access
                module.reset_parameters()
                if module.affine:
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.uniform_(-0.2, 0.2)
                if module.track_running_stats:
                    module.running_mean.uniform_(-0.2, 0.2)
                    module.running_var.uniform_(0.5, 1.5)
            elif hasattr(module, "reset_parameters"):
                module.reset_parameters()
