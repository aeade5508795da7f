"""Support vector machines with an RBF kernel, evaluated with NumPy: inference needs no scikit-learn and no pickle."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import numpy.typing as npt

from faceattr_udf.arrays import Float32Array


class RbfSvm:
    """A trained one-vs-one classifier (Chang and Lin 2011, "LIBSVM: A Library for Support Vector Machines").

    Attributes:
        vectors: float32 (m, d), the support vectors.
        coefficients: float32 (m, pairs), dual coefficients of the binary classifiers; 0 where a vector supports none.
        intercepts: float32 (pairs,).
        gamma: Parameter of the kernel exp(-gamma |x - y|^2).
        classes: Number of classes; the pairs are (0, 1), (0, 2), ... in the order of `itertools.combinations`.
    """

    def __init__(
        self, vectors: Float32Array, coefficients: Float32Array, intercepts: Float32Array, gamma: float, classes: int
    ) -> None:
        self.vectors, self.coefficients, self.intercepts = vectors, coefficients, intercepts
        self.gamma, self.classes = gamma, classes
        self._pairs = list(combinations(range(classes), 2))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]], name: str) -> "RbfSvm":
        """Creates a classifier from the arrays `NAME.vectors`, `.coefficients`, `.intercepts`, `.gamma` and `.classes`.

        Raises:
            KeyError: An array is missing.
            ValueError: The shapes do not match, or a number is not finite.
        """
        vectors, coefficients, intercepts = (
            np.asarray(arrays[f"{name}.{part}"], np.float32) for part in ("vectors", "coefficients", "intercepts")
        )
        gamma, classes = (np.asarray(arrays[f"{name}.{part}"]).reshape(1)[0].item() for part in ("gamma", "classes"))
        pairs = classes * (classes - 1) // 2
        shapes = (vectors.ndim, coefficients.shape, intercepts.shape)
        if pairs < 1 or shapes != (2, (len(vectors), pairs), (pairs,)):
            msg = f"the shapes of the arrays {name}.* do not match"
            raise ValueError(msg)
        if not all(np.isfinite(part).all() for part in (vectors, coefficients, intercepts, gamma)):
            msg = f"the arrays {name}.* hold numbers that are not finite"
            raise ValueError(msg)
        return cls(vectors, coefficients, intercepts, gamma, classes)

    def to_arrays(self, name: str) -> dict[str, npt.NDArray[np.generic]]:
        """Returns the arrays that `from_arrays` takes."""
        return {
            f"{name}.vectors": self.vectors,
            f"{name}.coefficients": self.coefficients,
            f"{name}.intercepts": self.intercepts,
            f"{name}.gamma": np.array([self.gamma], dtype=np.float64),
            f"{name}.classes": np.array([self.classes], dtype=np.int64),
        }

    def pairwise_decisions(self, points: Float32Array) -> Float32Array:
        """Evaluates the binary classifiers, (n, d) -> (n, pairs): positive for the first class of the pair."""
        squares = (points**2).sum(axis=1)[:, None] + (self.vectors**2).sum(axis=1)[None]
        kernel = np.exp(-self.gamma * np.maximum(squares - 2.0 * points @ self.vectors.T, 0.0))
        return np.asarray(kernel @ self.coefficients + self.intercepts, dtype=np.float32)

    def decision_function(self, points: Float32Array) -> Float32Array:
        """Returns one score per class, (n, d) -> (n, classes): its votes; ties are broken by the sums of its decisions.

        Equals scikit-learn's `decision_function` with `decision_function_shape="ovr"`, except that two classes have two
        scores, plus and minus half of the one decision.
        """
        decisions = self.pairwise_decisions(points)
        if self.classes == 2:
            return np.asarray(np.concatenate([decisions, -decisions], axis=1) / 2.0, dtype=np.float32)
        votes = np.zeros((len(points), self.classes), dtype=np.float32)
        sums = np.zeros_like(votes)
        for column, (first, second) in enumerate(self._pairs):
            sums[:, first] += decisions[:, column]
            sums[:, second] -= decisions[:, column]
            votes[:, first] += decisions[:, column] >= 0
            votes[:, second] += decisions[:, column] < 0
        return np.asarray(votes + sums / (3.0 * (np.abs(sums) + 1.0)), dtype=np.float32)
