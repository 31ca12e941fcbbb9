"""The types and functions that a model file may hold, beside those that skops trusts by itself.

skops trusts the estimators of scikit-learn and the ufuncs of numpy and scipy. What their fitted state is made of, and
the functions that they hold by reference, stand here, each by its full name. A name may stand here if

* making an object of it runs no code that the file brings: no class whose ``__setstate__`` executes text of its state,
  as the distributions of ``scipy.stats`` do;
* calling it with any arguments computes numbers of its arguments and does nothing else: it reads and writes no file,
  opens no connection, starts no process, imports nothing and calls nothing that is not held to this list itself.

There are no prefixes and no patterns: a name that a later release of a library adds is refused until it stands here.
"""

from __future__ import annotations


def names_in(module: str, names: str) -> tuple[str, ...]:
    """Return the full names of classes or functions of a module, from their names separated by spaces.

    >>> names_in("numpy", "max min")
    ('numpy.max', 'numpy.min')
    """
    return tuple(f"{module}.{name}" for name in names.split())


FITTED_STATE = (
    *names_in("airflow_mlops.core.registry.onnx_graph", "OnnxClassifier OnnxRegressor"),
    *names_in("builtins", "object"),
    *names_in("numpy", "dtype"),
    *names_in("functools", "partial"),
    *names_in("sklearn._loss.link", "HalfLogitLink IdentityLink Interval LogLink LogitLink MultinomialLogit"),
    *names_in(
        "sklearn._loss.loss",
        "AbsoluteError ExponentialLoss HalfBinomialLoss HalfGammaLoss HalfMultinomialLoss HalfPoissonLoss "
        "HalfSquaredError HalfTweedieLoss HalfTweedieLossIdentity HuberLoss PinballLoss",
    ),
    *names_in("sklearn.calibration", "_CalibratedClassifier _SigmoidCalibration _TemperatureScaling"),
    *names_in("sklearn.cluster._bisect_k_means", "_BisectingTree"),
    *names_in("sklearn.compose._column_transformer", "make_column_selector"),
    *names_in("sklearn.ensemble._hist_gradient_boosting.predictor", "TreePredictor"),
    *names_in("sklearn.gaussian_process._gpc", "_BinaryGaussianProcessClassifierLaplace"),
    *names_in(
        "sklearn.gaussian_process.kernels",
        "CompoundKernel ConstantKernel DotProduct ExpSineSquared Exponentiation Matern PairwiseKernel Product RBF "
        "RationalQuadratic Sum WhiteKernel",
    ),
    *names_in("sklearn.metrics._scorer", "_CurveScorer _Scorer"),
    *names_in("sklearn.multiclass", "_ConstantPredictor"),
    *names_in("sklearn.neighbors._ball_tree", "BallTree"),
    *names_in("sklearn.neighbors._kd_tree", "KDTree"),
    *names_in("sklearn.neural_network._stochastic_optimizers", "AdamOptimizer SGDOptimizer"),
    *names_in("sklearn.tree._tree", "Tree"),
    *names_in("sklearn.utils._bunch", "Bunch"),
    *names_in("sklearn.utils._metadata_requests", "MetadataRequest MethodMetadataRequest"),
    *names_in("scipy.interpolate._bsplines", "BSpline"),
    # Read as arrays, never as pickles.
    *names_in("scipy.sparse._csc", "csc_array csc_matrix"),
    *names_in("scipy.sparse._csr", "csr_array csr_matrix"),
)
"""Classes that the fitted state of public estimators is made of. A partial names its function, held to the list."""

DISTANCES = names_in(
    "sklearn.metrics._dist_metrics",
    # PyFuncDistance is missing on purpose: it calls any function.
    "BrayCurtisDistance32 BrayCurtisDistance64 CanberraDistance32 CanberraDistance64 ChebyshevDistance32 "
    "ChebyshevDistance64 DiceDistance32 DiceDistance64 EuclideanDistance32 EuclideanDistance64 HammingDistance32 "
    "HammingDistance64 HaversineDistance32 HaversineDistance64 JaccardDistance32 JaccardDistance64 "
    "MahalanobisDistance32 MahalanobisDistance64 ManhattanDistance32 ManhattanDistance64 MinkowskiDistance32 "
    "MinkowskiDistance64 RogersTanimotoDistance32 RogersTanimotoDistance64 RussellRaoDistance32 "
    "RussellRaoDistance64 SEuclideanDistance32 SEuclideanDistance64 SokalSneathDistance32 SokalSneathDistance64",
)
"""The metrics of neighbours."""

SPLITTERS = names_in(
    "sklearn.model_selection._split",
    "GroupKFold GroupShuffleSplit KFold LeaveOneGroupOut LeaveOneOut LeavePGroupsOut LeavePOut PredefinedSplit "
    "RepeatedKFold RepeatedStratifiedKFold ShuffleSplit StratifiedGroupKFold StratifiedKFold "
    "StratifiedShuffleSplit TimeSeriesSplit",
)
"""The splits that an estimator may hold as ``cv``."""

FUNCTIONS = (
    *names_in("numpy", "amax amin clip max mean median min nan_to_num round sum"),
    *names_in("sklearn.cluster._kmeans", "_kmeans_single_elkan _kmeans_single_lloyd"),
    *names_in("sklearn.feature_selection._mutual_info", "mutual_info_classif mutual_info_regression"),
    *names_in("sklearn.feature_selection._univariate_selection", "chi2 f_classif f_oneway f_regression r_regression"),
    *names_in(
        "sklearn.metrics._classification",
        "accuracy_score balanced_accuracy_score brier_score_loss cohen_kappa_score d2_brier_score d2_log_loss_score "
        "f1_score fbeta_score hinge_loss jaccard_score log_loss matthews_corrcoef precision_score recall_score "
        "zero_one_loss",
    ),
    *names_in("sklearn.metrics._ranking", "average_precision_score roc_auc_score top_k_accuracy_score"),
    *names_in(
        "sklearn.metrics._regression",
        "d2_absolute_error_score d2_pinball_score d2_tweedie_score explained_variance_score max_error "
        "mean_absolute_error mean_absolute_percentage_error mean_gamma_deviance mean_pinball_loss "
        "mean_poisson_deviance mean_squared_error mean_squared_log_error mean_tweedie_deviance "
        "median_absolute_error r2_score root_mean_squared_error root_mean_squared_log_error",
    ),
    *names_in("sklearn.metrics._scorer", "negative_likelihood_ratio positive_likelihood_ratio"),
    *names_in(
        "sklearn.metrics.pairwise",
        "additive_chi2_kernel chi2_kernel cosine_distances cosine_similarity euclidean_distances haversine_distances "
        "laplacian_kernel linear_kernel manhattan_distances nan_euclidean_distances polynomial_kernel rbf_kernel "
        "sigmoid_kernel",
    ),
    # Gradient boosting that reads pandas categories checks them by a partial of this function.
    *names_in("sklearn.utils.validation", "check_array"),
    # A spline keeps the function by which it makes arrays.
    *names_in("scipy._lib.array_api_compat.numpy._aliases", "asarray"),
)
"""Functions that public estimators take as a parameter or hold by reference; each computes numbers of its arguments."""

BOOSTERS = (
    *names_in("collections", "OrderedDict"),
    *names_in("catboost.core", "CatBoostClassifier CatBoostRegressor"),
    *names_in("lightgbm.basic", "Booster"),
    *names_in("lightgbm.sklearn", "LGBMClassifier LGBMRegressor"),
    *names_in("xgboost.core", "Booster"),
    *names_in("xgboost.sklearn", "XGBClassifier XGBRFClassifier XGBRFRegressor XGBRegressor"),
)
"""Boosted trees of other libraries, which the extras install; each reads its trees from a format of its own."""

TRUSTED_TYPES = (*BOOSTERS, *FITTED_STATE, *DISTANCES, *SPLITTERS, *FUNCTIONS)
"""Every name that is trusted beside those of skops itself."""
