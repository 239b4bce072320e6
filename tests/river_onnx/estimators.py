"""Estimators for the tests, and the rows that they see."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from river import (
    anomaly,
    compose,
    dummy,
    ensemble,
    facto,
    feature_extraction,
    feature_selection,
    imblearn,
    linear_model,
    multiclass,
    naive_bayes,
    optim,
    preprocessing,
    stats,
    tree,
)

from dataflows.river_onnx.parity import as_river

Doubles = NDArray[np.float64]
Kind = Literal["binary", "multiclass", "regression", "anomaly"]
Make = Callable[[], Any]

# "first" decides the labels; "constant" never varies; the last two are categories.
NAMES = ("first", "big", "small", "constant", "shop", "country")
CLASSES = ("b", "a", "never", "c", "d")
CATEGORIES: dict[Any, Any] = {"shop": {1.0, 2.0, 4.5}, "country": {-1.0, 5.0}}
SIGNED: dict[Any, Any] = {"shop": {0.0, 1.0, 2.0}, "country": {-1.0, 5.0}}
ROUGH: Any = optim.SGD(0.001)
SLOW: Any = {"weight_optimizer": ROUGH, "latent_optimizer": ROUGH, "seed": 1}

# River puts pipelines wherever a model may stand; its types do not know.
Standard: Any = preprocessing.StandardScaler
OneHot: Any = preprocessing.OneHotEncoder
Logistic: Any = linear_model.LogisticRegression
Linear: Any = linear_model.LinearRegression
OneVsRest: Any = multiclass.OneVsRestClassifier


def numbers() -> Any:
    """The numeric features alone."""
    return compose.Select("first", "big", "small")


def categories(**options: Any) -> Any:
    """The other two, one-hot."""
    return compose.Select("shop", "country") | OneHot(**options)


def mixed(**options: Any) -> Any:
    """All of them, the numeric ones scaled."""
    return (numbers() | Standard()) + categories(**options)


def imputed() -> Any:
    """An imputer of each sort."""
    return preprocessing.StatImputer(
        ("first", stats.Mean()),
        ("big", 0.25),
        ("small", stats.Quantile()),
        ("constant", stats.Max()),
        ("shop", stats.Mode()),
        ("country", stats.Mode()),
    )


TRANSFORMERS: dict[str, Make] = {
    "standard": Standard,
    "centred": lambda: Standard(with_std=False) | Standard(),
    "min_max": preprocessing.MinMaxScaler,
    "max_abs": preprocessing.MaxAbsScaler,
    "robust": preprocessing.RobustScaler,
    "robust_centred": lambda: preprocessing.RobustScaler(with_scaling=False) | Standard(),
    "robust_scaled": lambda: preprocessing.RobustScaler(False, True, 0.1, 0.6),
    "adaptive": preprocessing.AdaptiveStandardScaler,
    "norm_1": lambda: preprocessing.Normalizer(1),
    "norm_2": preprocessing.Normalizer,
    "norm_inf": lambda: preprocessing.Normalizer(math.inf),
    "binarizer": lambda: preprocessing.Binarizer(0.3),
    "binarizer_int": lambda: preprocessing.Binarizer(-1.0, int),
    "one_hot": mixed,
    "one_hot_of_one": lambda: compose.Select("country") | OneHot(),
    "one_hot_scaled": lambda: (numbers() + categories()) | Standard(),
    "one_hot_given": lambda: mixed(categories=CATEGORIES),
    "one_hot_signed": lambda: mixed(categories=SIGNED),
    "one_hot_sparse": lambda: mixed(categories=CATEGORIES, drop_zeros=True) | Standard(),
    "one_hot_sparse_digits": lambda: (
        mixed(categories=CATEGORIES, drop_zeros=True) | preprocessing.Binarizer(-1.0)
    ),
    "one_hot_without_first": lambda: mixed(categories=CATEGORIES, drop_first=True),
    "one_hot_normed": lambda: mixed() | preprocessing.Normalizer(),
    "ordinal": lambda: (
        (numbers() | Standard())
        + (compose.Select("shop", "country") | preprocessing.OrdinalEncoder())
    ),
    "ordinal_one_hot": lambda: preprocessing.OrdinalEncoder() | OneHot(),
    "discard": lambda: compose.Discard("big", "shop", "nobody") | Standard(),
    "names": lambda: (
        (numbers() | Standard() | compose.Prefixer("a_"))
        + (numbers() | preprocessing.MaxAbsScaler() | compose.Suffixer("_s"))
    ),
    "renamer": lambda: (
        numbers() | compose.Renamer({"first": "small", "big": "new", "no": "x"}) | Standard()
    ),
    "equal_names": lambda: (numbers() | Standard()) + compose.Select("first", "constant"),
    "product": lambda: (
        (compose.Select("first", "big") | Standard())
        * (compose.Select("small", "constant") | Standard())
    ),
    "product_one_hot": lambda: (compose.Select("first", "big") | Standard()) * categories(),
    "polynomial": lambda: (
        numbers() | Standard() | feature_extraction.PolynomialExtender(degree=3, include_bias=True)
    ),
    "interactions": lambda: (
        numbers() | Standard() | feature_extraction.PolynomialExtender(interaction_only=True)
    ),
    "polynomial_one_hot": lambda: categories() | feature_extraction.PolynomialExtender(),
    "variance": lambda: feature_selection.VarianceThreshold(0.5) | Standard(),
    "best": lambda: (
        numbers() | Standard() | feature_selection.SelectKBest(stats.PearsonCorr(), k=2)
    ),
}
IMPUTERS: dict[str, Make] = {
    "statistics": lambda: imputed() | Standard(),
    "previous": lambda: preprocessing.PreviousImputer() | Standard(),
    "binarized": lambda: preprocessing.Binarizer(0.3) | preprocessing.PreviousImputer(),
    "one_hot_of_none": lambda: (
        (numbers() | preprocessing.PreviousImputer() | Standard()) + categories()
    ),
    "ordinal_of_none": lambda: (
        (numbers() | preprocessing.PreviousImputer() | Standard())
        + (compose.Select("shop", "country") | preprocessing.OrdinalEncoder(unknown_value=-7))
    ),
}
BINARY: dict[str, Make] = {
    "logistic": lambda: Standard() | Logistic(l2=0.1),
    "logistic_hinge": lambda: Standard() | Logistic(loss=optim.losses.Hinge()),
    "logistic_focal": lambda: Standard() | Logistic(loss=optim.losses.BinaryFocalLoss()),
    "perceptron": lambda: Standard() | linear_model.Perceptron(),
    "passive_aggressive": lambda: Standard() | linear_model.PAClassifier(),
    "passive_one_hot": lambda: mixed() | linear_model.PAClassifier(),
    "passive_sparse": lambda: (
        mixed(categories=CATEGORIES, drop_zeros=True) | linear_model.PAClassifier()
    ),
    "alma": lambda: mixed() | linear_model.ALMAClassifier(),
    "softmax": lambda: Standard() | linear_model.SoftmaxRegression(),
    "gaussian": naive_bayes.GaussianNB,
    "gaussian_one_hot": lambda: mixed() | naive_bayes.GaussianNB(),
    "gaussian_sparse": lambda: (
        mixed(categories=CATEGORIES, drop_zeros=True) | naive_bayes.GaussianNB()
    ),
    "bernoulli": lambda: mixed() | naive_bayes.BernoulliNB(true_threshold=0.2),
    "bernoulli_sparse": lambda: (
        categories(categories=CATEGORIES, drop_zeros=True) | naive_bayes.BernoulliNB()
    ),
    "multinomial_signed": lambda: (
        categories(categories=SIGNED, drop_zeros=True) | naive_bayes.MultinomialNB(0.3)
    ),
    "fm": lambda: Standard() | facto.FMClassifier(seed=1),
    "fm_one_hot": lambda: (
        compose.Discard("first", "big", "small", "constant")
        | OneHot(CATEGORIES)
        | facto.FMClassifier(seed=1)
    ),
    "fwfm": lambda: Standard() | compose.Prefixer("a_") | facto.FwFMClassifier(seed=1),
    "ffm": lambda: Standard() | facto.FFMClassifier(seed=1),
    "hofm": lambda: Standard() | facto.HOFMClassifier(n_factors=3, seed=1),
    "one_vs_rest": lambda: OneVsRest(Standard() | Logistic()),
    "bagging_one_hot": lambda: mixed() | ensemble.BaggingClassifier(Logistic(), n_models=3, seed=1),
    "bagged_trees_one_hot": lambda: (
        mixed()
        | ensemble.ADWINBaggingClassifier(
            tree.HoeffdingTreeClassifier(grace_period=20, delta=0.1), n_models=3, seed=1
        )
    ),
    "tree_sparse": lambda: (
        mixed(categories=CATEGORIES, drop_zeros=True)
        | tree.HoeffdingTreeClassifier(grace_period=20, delta=0.1)
    ),
    "under_sampler": lambda: (
        Standard() | imblearn.RandomUnderSampler(Logistic(), {True: 0.4, False: 0.6}, seed=1)
    ),
    "hard_sampler": lambda: imblearn.HardSamplingClassifier(
        Standard() | Logistic(), size=10, p=0.1, seed=1
    ),
    "filter_before": lambda: compose.Pipeline(
        Standard(), anomaly.QuantileFilter(anomaly.OneClassSVM(), q=0.9), Logistic()
    ),
    "prior": dummy.PriorClassifier,
    "no_change": dummy.NoChangeClassifier,
}
MULTICLASS: dict[str, Make] = {
    "softmax": lambda: Standard() | linear_model.SoftmaxRegression(),
    "softmax_one_hot": lambda: mixed() | linear_model.SoftmaxRegression(),
    "softmax_sparse": lambda: (
        mixed(categories=CATEGORIES, drop_zeros=True)
        | preprocessing.Binarizer(-1.0)
        | linear_model.SoftmaxRegression()
    ),
    "gaussian": naive_bayes.GaussianNB,
    "bernoulli": lambda: categories() | naive_bayes.BernoulliNB(),
    "multinomial": lambda: categories() | naive_bayes.MultinomialNB(),
    "multinomial_products": lambda: (
        categories() | feature_extraction.PolynomialExtender() | naive_bayes.MultinomialNB()
    ),
    "complement": lambda: categories() | naive_bayes.ComplementNB(),
    "one_vs_rest": lambda: Standard() | OneVsRest(Logistic()),
    "one_vs_rest_one_hot": lambda: OneVsRest(mixed() | linear_model.PAClassifier()),
    "one_vs_rest_multinomial": lambda: categories() | OneVsRest(naive_bayes.MultinomialNB()),
    "one_vs_rest_sparse": lambda: (
        categories(categories=CATEGORIES, drop_zeros=True) | OneVsRest(naive_bayes.ComplementNB())
    ),
    "one_vs_rest_of_pipelines": lambda: (
        categories() | OneVsRest(compose.Suffixer("_s") | naive_bayes.MultinomialNB())
    ),
    "multinomial_of_parts": lambda: (
        (categories() | compose.Prefixer("x_"))
        + (compose.Discard("first", "big", "small") | OneHot() | compose.Suffixer("_s"))
        | naive_bayes.MultinomialNB()
    ),
    "bagged_multinomial": lambda: (
        categories() | ensemble.BaggingClassifier(naive_bayes.MultinomialNB(), n_models=3, seed=1)
    ),
    "multinomial_normed": lambda: (
        (categories() | preprocessing.Normalizer(1)) + categories() | naive_bayes.MultinomialNB()
    ),
    "prior": dummy.PriorClassifier,
    "no_change": dummy.NoChangeClassifier,
}
REGRESSION: dict[str, Make] = {
    "linear": lambda: Standard() | Linear(),
    "linear_huber": lambda: Standard() | Linear(loss=optim.losses.Huber()),
    "linear_poisson": lambda: Standard() | Linear(ROUGH.clone(), loss=optim.losses.Poisson()),
    "passive_aggressive": lambda: Standard() | linear_model.PARegressor(),
    "bayesian": lambda: mixed() | linear_model.BayesianLinearRegression(),
    "bayesian_smooth": lambda: Standard() | linear_model.BayesianLinearRegression(smoothing=0.9),
    "fm": lambda: Standard() | facto.FMRegressor(**SLOW),
    "fwfm": lambda: Standard() | facto.FwFMRegressor(int_weight_optimizer=ROUGH, **SLOW),
    "ffm": lambda: Standard() | facto.FFMRegressor(**SLOW),
    "hofm": lambda: Standard() | facto.HOFMRegressor(n_factors=3, **SLOW),
    "target_standard": lambda: Standard() | preprocessing.TargetStandardScaler(Linear()),
    "target_min_max": lambda: preprocessing.TargetMinMaxScaler(Standard() | Linear()),
    "clipped": lambda: Standard() | preprocessing.PredClipper(Linear(), -0.5, 0.5),
    "statistic": lambda: dummy.StatisticRegressor(stats.Mean()),
    "hard_sampler": lambda: (
        Standard() | imblearn.HardSamplingRegressor(Linear(), size=10, p=0.1, seed=1)
    ),
    "chebyshev_under": lambda: Standard() | imblearn.ChebyshevUnderSampler(Linear(), seed=1),
    "chebyshev_over": lambda: Standard() | imblearn.ChebyshevOverSampler(Linear()),
}
ANOMALY: dict[str, Make] = {
    "one_class": lambda: Standard() | anomaly.OneClassSVM(),
    "quantile_filter": lambda: Standard() | anomaly.QuantileFilter(anomaly.OneClassSVM(), q=0.9),
    "threshold_filter": lambda: anomaly.ThresholdFilter(
        Standard() | anomaly.OneClassSVM(), threshold=0.9
    ),
}


@dataclass(frozen=True)
class Subject:
    """An estimator under test."""

    kind: Kind
    make: Make
    missing: bool = False

    @property
    def classes(self) -> tuple[str, ...] | None:
        """What ``to_onnx`` is given."""
        return CLASSES if self.kind == "multiclass" else None


def _ends(make: Make) -> Make:
    """Ends a transformer with a model that minds each of its outputs, however constant."""
    return lambda: (
        make() | Logistic(ROUGH.clone(), initializer=optim.initializers.Normal(sigma=0.3, seed=3))
    )


SUBJECTS: dict[str, Subject] = {
    **{name: Subject("binary", _ends(make)) for name, make in TRANSFORMERS.items()},
    **{f"imputed_{name}": Subject("binary", _ends(make), True) for name, make in IMPUTERS.items()},
    **{f"binary_{name}": Subject("binary", make) for name, make in BINARY.items()},
    **{f"multiclass_{name}": Subject("multiclass", make) for name, make in MULTICLASS.items()},
    **{f"regression_{name}": Subject("regression", make) for name, make in REGRESSION.items()},
    **{f"anomaly_{name}": Subject("anomaly", make) for name, make in ANOMALY.items()},
}


def rows(subject: Subject, seed: int, count: int) -> Doubles:
    """Rows to learn from."""
    random = np.random.default_rng(seed)
    matrix = np.column_stack(
        [
            random.normal(size=count),
            random.normal(3.0, 100.0, size=count),
            random.normal(size=count) * 1e-3,
            np.full(count, 2.0),
            random.choice([0.0, 1.0, 2.0, 4.5], size=count),
            random.choice([-1.0, 5.0, 7.0], size=count),
        ]
    )
    if subject.missing:
        matrix[random.random(matrix.shape) < 0.2] = np.nan
        matrix[:1] = [0.5, -3.0, 1e-3, 2.0, 1.0, 5.0]
    return matrix


def new_rows(subject: Subject, seed: int, count: int) -> Doubles:
    """Rows to predict: the same, with categories never seen, zeros of either sign, repetitions."""
    random = np.random.default_rng(seed)
    matrix = rows(subject, seed, count)
    matrix[::5, 4] = random.choice([3.0, -0.0, 1e300, -2.0], size=len(matrix[::5]))
    matrix[::7, 5] = random.choice([1.0, 0.0, -5.0], size=len(matrix[::7]))
    matrix[::3, 3] = random.normal(size=len(matrix[::3]))
    matrix[1::9, 0] = 0.0
    matrix[2::9, 0] = -0.0
    matrix[4::9, 1] = matrix[3::9, 1][: len(matrix[4::9])]
    return matrix


def trained(subject: Subject, seed: int, count: int) -> Any:
    """An estimator that has learned from so many rows."""
    estimator = subject.make()
    random = np.random.default_rng(seed + 1)
    for row in rows(subject, seed, count).tolist():
        x = as_river(NAMES, row)
        hidden = (x["first"] or 0.0) + 0.5 * random.normal()
        if subject.kind == "anomaly":
            estimator.learn_one(x)
        elif subject.kind == "binary":
            estimator.learn_one(x, bool(hidden > 0))
        elif subject.kind == "multiclass":
            estimator.learn_one(x, "abcd"[int(abs(hidden) * 2) % 4])
        else:
            estimator.learn_one(x, abs(hidden))
    return estimator
