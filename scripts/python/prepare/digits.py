"""The embedded subject: scikit-learn's 1,797 handwritten digits of 8x8 pixels (0..16)."""

import numpy as np
import sklearn.datasets

from prepare.container import writing
from prepare.splits import by_fractions

NEEDS_SOURCE = False
FRACTIONS = {"train": 0.3, "validation": 0.1, "repair": 0.4, "test": 0.2}  # many to repair on: many kinds of faults
SEED = 42


def prepare(source, out, check):
    del source, check  # the images come with scikit-learn
    digits = sklearn.datasets.load_digits()
    images = digits.images.astype(np.uint8)[:, None]
    labels = digits.target
    with writing(out, len(images)) as data:
        data.describe(classes=10, divisor=16, mean=[0.0], std=[1.0], class_names=[str(i) for i in range(10)],
                      source="scikit-learn load_digits (UCI optical recognition of handwritten digits, test part)",
                      splits=f"RandomState({SEED}).permutation(1797), cut at 30, 40 and 80 percent")
        for name, numbers in by_fractions(labels, FRACTIONS, SEED, False, "digits").items():
            data.add_array(name, images[numbers], labels[numbers])
