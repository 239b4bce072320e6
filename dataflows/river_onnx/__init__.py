"""River estimators as ONNX models in double precision.

A package of its own: it needs river, onnx and numpy, and nothing of Headwater. ``to_onnx`` exports
an estimator, ``check_exportable`` says beforehand whether it can; to teach it another class,
``register`` a ``Converter``.
"""

from __future__ import annotations

from . import (
    bayes,
    encoding,
    ensembles,
    factorization,
    forest,
    half_space,
    imputing,
    linear,
    model_choice,
    mondrian,
    refusals,
    scaling,
    selection,
    stacking,
    tree_classifiers,
    tree_regressors,
    wrappers,
)
from .convert import append, check_exportable, checked, probabilities, to_onnx
from .graph import Graph
from .registry import (
    ByClass,
    Columns,
    Converter,
    Role,
    Rows,
    Stacked,
    UnsupportedEstimatorError,
    Wanted,
    register,
)

for _module in (
    refusals,
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
    forest,
    mondrian,
    half_space,
    ensembles,
    stacking,
    model_choice,
):
    _module.teach()

__all__ = [
    "ByClass",
    "Columns",
    "Converter",
    "Graph",
    "Role",
    "Rows",
    "Stacked",
    "UnsupportedEstimatorError",
    "Wanted",
    "append",
    "check_exportable",
    "checked",
    "probabilities",
    "register",
    "to_onnx",
]
