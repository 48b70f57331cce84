"""CIFAR10S: CIFAR-10 with nearly all images of five classes in gray, and few of the other five (Wang et al. 2020)."""

import numpy as np

from common.errors import UserError
from prepare import cifar10
from prepare.container import writing
from prepare.official import Form, Origin
from prepare.splits import permutation

NEEDS_SOURCE = True
MASK = "p95_train_gray_mask.u8"
ORIGIN = Origin("CIFAR10S (CIFAR-10 in its binary version, and which images are gray)",
                f"{cifar10.ORIGIN.home}.\n  {MASK} is the 95 % skew of Wang et al. 2020, Towards Fairness in Visual "
                "Recognition, as 50,000 bytes in the\n  order of data_batch_1..5, 1 = gray: its authors' "
                "preprocess_data.py (https://github.com/princetonvisualai/DomainBiasMitigation)\n  writes "
                "data/cifar-s/p95.0/train_2n_labels, in which the labels of gray images are 10 and more",
                cifar10.ORIGIN.terms + "; and Wang et al. 2020")
FILES = cifar10.FILES + [[Form(MASK, "465a8b59df66f666eb147435e0646ae1")]]
MEAN = [0.16384] * 3
STD = [0.33210605, 0.328938, 0.3250164]


def to_gray(images):
    """Images (n,3,H,W) with their luminance in all three channels."""
    red, green, blue = (images[:, channel].astype(np.uint32) for channel in range(3))
    gray = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    return np.repeat(gray.astype(np.uint8)[:, None], 3, axis=1)


def read_mask(path):
    mask = np.fromfile(path, np.uint8)
    if len(mask) != 50000:
        raise UserError(path, found=f"{len(mask)} bytes", expected="50000, one per training image")
    if mask.max() > 1:
        at = int(np.argmax(mask > 1))
        raise UserError(path, f"byte {at}", str(mask[at]), "0 (colour) or 1 (gray)")
    return mask


def prepare(source, out, check):
    *batches, mask_path = cifar10.find(source, ORIGIN, FILES, check)
    train, test = cifar10.Batches(batches[:5]), cifar10.Batches(batches[5:])
    mask = read_mask(mask_path)
    doubled = np.repeat(np.array([0, 1], np.uint8), 10000)  # all test images in colour, then all in gray

    def images(batches, numbers, gray):
        result = batches.images(numbers)
        result[gray] = to_gray(result[gray])
        return result

    def train_images(numbers):
        return images(train, numbers, mask[numbers] == 1)

    def test_images(numbers):
        return images(test, numbers % 10000, doubled[numbers] == 1)

    inner, outer = permutation(50000), permutation(20000)
    with writing(out, 70000) as data:
        data.describe(classes=10, divisor=255, mean=MEAN, std=STD, class_names=cifar10.CLASSES,
                      group_names=["color", "gray"],
                      source="CIFAR-10, https://www.cs.toronto.edu/~kriz/cifar.html, skewed as in Wang et al. 2020, "
                             "Towards Fairness in Visual Recognition (95 %)", terms=ORIGIN.terms,
                      splits="p(n) = RandomState(42).permutation(n); validation p(50000)[:5000], train the rest; of "
                             "the 10,000 test images in colour and then in gray repair p(20000)[:10000], test the rest")
        for name, read, labels, groups, numbers in (
                ("train", train_images, train.labels, mask, inner[5000:]),
                ("validation", train_images, train.labels, mask, inner[:5000]),
                ("repair", test_images, np.tile(test.labels, 2), doubled, outer[:10000]),
                ("test", test_images, np.tile(test.labels, 2), doubled, outer[10000:])):
            data.add_split(name, labels[numbers], cifar10.in_pieces(read, numbers), cifar10.SHAPE, np.uint8,
                           groups[numbers])
