"""River estimators as ONNX models in double precision.

A package of its own: it needs river, onnx and numpy, and nothing of Headwater. ``to_onnx`` exports
an estimator, ``check_exportable`` says beforehand whether it can; to teach it another class,
``register`` a ``Converter``.
"""

from __future__ import annotations

from . import (
    bayes,
    encoding,
    factorization,
    imputing,
    linear,
    scaling,
    selection,
    tree_classifiers,
    tree_regressors,
    wrappers,
)
from .convert import check_exportable, to_onnx
from .registry import (
    ByClass,
    Columns,
    Converter,
    Role,
    Stacked,
    UnsupportedEstimatorError,
    Wanted,
    register,
)

for _module in (
    scaling,
    selection,
    encoding,
    imputing,
    linear,
    bayes,
    factorization,
    wrappers,
    tree_classifiers,
    tree_regressors,
):
    _module.teach()

__all__ = [
    "ByClass",
    "Columns",
    "Converter",
    "Role",
    "Stacked",
    "UnsupportedEstimatorError",
    "Wanted",
    "check_exportable",
    "register",
    "to_onnx",
]
