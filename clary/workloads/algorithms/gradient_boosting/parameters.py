"""The hyperparameters of XGBoost, with their ranges and the rules among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clary.workloads.algorithms.errors import UserError
from clary.workloads.algorithms.gradient_boosting.metric_names import METRICS
from clary.workloads.algorithms.hyperparameters import Hyperparameter, Hyperparameters, Interval

OBJECTIVES = (
    "aft_loss_distribution",
    "binary:logistic",
    "binary:logitraw",
    "binary:hinge",
    "count:poisson",
    "multi:softmax",
    "multi:softprob",
    "rank:pairwise",
    "rank:ndcg",
    "rank:map",
    "reg:linear",
    "reg:squarederror",
    "reg:logistic",
    "reg:gamma",
    "reg:pseudohubererror",
    "reg:squaredlogerror",
    "reg:absoluteerror",
    "reg:tweedie",
    "survival:aft",
    "survival:cox",
)
TREE_BUILDERS = (
    "grow_colmaker",
    "distcol",
    "grow_histmaker",
    "grow_local_histmaker",
    "grow_quantile_histmaker",
)
TREE_UPDATERS = (*TREE_BUILDERS, "grow_skmaker", "sync", "refresh", "prune")
LINEAR_UPDATERS = ("shotgun", "coord_descent")
THRESHOLD_METRICS = ("error", "ndcg", "map")

ZERO_ONE = Interval(0, 1)
POSITIVE_TO_ONE = Interval(0, 1, low_open=True)
NOT_NEGATIVE = Interval(0)
POSITIVE = Interval(0, low_open=True)
FROM_ONE = Interval(1)
SWITCH = Interval(0, 1)


def _integer(name: str, interval: Interval, **more: Any) -> Hyperparameter:
    return Hyperparameter(name, "integer", interval=interval, **more)


def _number(name: str, interval: Interval, **more: Any) -> Hyperparameter:
    return Hyperparameter(name, "continuous", interval=interval, **more)


def _choice(name: str, *choices: str) -> Hyperparameter:
    return Hyperparameter(name, "categorical", choices=choices)


def _is_metric(word: str) -> bool:
    """A metric's name, or one with a threshold as in `error@0.7`; raises UserError for bad ones."""
    if "<function" in word:
        raise UserError(f"User defined evaluation metric {word} is not supported yet.")
    name, at, threshold = word.partition("@")
    if not at:
        return word in METRICS
    if name.strip() not in THRESHOLD_METRICS:
        raise UserError(
            f"Metric '{word}' is not supported. Parameter 'eval_metric' with customized threshold "
            "should be one of these options: 'error', 'ndcg', 'map'."
        )
    try:
        float(threshold.strip().rstrip("-"))
    except ValueError:
        raise UserError(f"Threshold value 't' in '{name.strip()}@t' expects float input.") from None
    return True


DECLARED = (
    _integer("num_round", FROM_ONE, required=True, tunable=Interval(1, 4000)),
    _integer("csv_weights", SWITCH),
    _integer("early_stopping_rounds", FROM_ONE),
    _choice("booster", "gbtree", "gblinear", "dart"),
    _integer("verbosity", Interval(0, 3)),
    _integer("nthread", FROM_ONE),
    _number("eta", ZERO_ONE, tunable=Interval(0.1, 0.5), aliases=("learning_rate",)),
    _number("gamma", NOT_NEGATIVE, tunable=Interval(0, 5), aliases=("min_split_loss",)),
    _integer("max_depth", NOT_NEGATIVE, tunable=Interval(0, 10)),
    _number("min_child_weight", NOT_NEGATIVE, tunable=Interval(0, 120)),
    _number("max_delta_step", NOT_NEGATIVE, tunable=Interval(0, 10)),
    _number("subsample", POSITIVE_TO_ONE, tunable=Interval(0.5, 1)),
    _number("colsample_bytree", POSITIVE_TO_ONE, tunable=Interval(0.5, 1)),
    _number("colsample_bylevel", POSITIVE_TO_ONE, tunable=Interval(0.1, 1)),
    _number("colsample_bynode", POSITIVE_TO_ONE, tunable=Interval(0.1, 1)),
    _number("lambda", NOT_NEGATIVE, tunable=Interval(0, 1000), aliases=("reg_lambda",)),
    _number("alpha", NOT_NEGATIVE, tunable=Interval(0, 1000), aliases=("reg_alpha",)),
    _choice("tree_method", "auto", "exact", "approx", "hist", "gpu_hist"),
    _number("sketch_eps", Interval(0, 1, low_open=True, high_open=True)),
    _number("scale_pos_weight", POSITIVE),
    Hyperparameter("updater", "words", choices=(*TREE_UPDATERS, *LINEAR_UPDATERS)),
    _choice("dsplit", "row", "col"),
    _integer("refresh_leaf", SWITCH),
    _choice("process_type", "default", "update"),
    _choice("grow_policy", "depthwise", "lossguide"),
    _integer("max_leaves", NOT_NEGATIVE),
    _integer("max_bin", NOT_NEGATIVE),
    _choice("predictor", "auto", "cpu_predictor", "gpu_predictor"),
    Hyperparameter("monotone_constraints", "tuple", choices=(-1, 0, 1)),
    Hyperparameter("interaction_constraints", "nested", interval=FROM_ONE),
    _choice("sample_type", "uniform", "weighted"),
    _choice("normalize_type", "tree", "forest"),
    _number("rate_drop", ZERO_ONE),
    _integer("one_drop", SWITCH),
    _number("skip_drop", ZERO_ONE),
    _number("lambda_bias", ZERO_ONE),
    _number("tweedie_variance_power", Interval(1, 2, low_open=True, high_open=True)),
    _choice("objective", *OBJECTIVES),
    _integer("num_class", Interval(2)),
    _number("base_score", NOT_NEGATIVE),
    _integer("_kfold", Interval(2)),
    _integer("_num_cv_round", FROM_ONE),
    Hyperparameter(
        "_tuning_objective_metric",
        "categorical",
        choices=tuple(f"{side}:{name}" for side in ("train", "validation") for name in METRICS),
    ),
    Hyperparameter("eval_metric", "words", choices=tuple(METRICS), accepts=_is_metric),
    _integer("seed", Interval(-(2**31), 2**31 - 1, low_open=True, high_open=True)),
    _integer("num_parallel_tree", FROM_ONE),
    _choice("save_model_on_termination", "true", "false"),
    _choice("aft_loss_distribution", "normal", "logistic", "extreme"),
    _number("aft_loss_distribution_scale", NOT_NEGATIVE),
    _choice("deterministic_histogram", "true", "false"),
    _choice("single_precision_histogram", "true", "false"),
    _choice("sampling_method", "uniform", "gradient_based"),
    _number("prob_buffer_row", Interval(1, low_open=True)),
    _choice("use_dask_gpu_training", "true", "false"),
)


def _updater_fits(values: Mapping[str, Any]) -> None:
    updaters = values.get("updater")
    if not updaters:
        return
    if values.get("booster") == "gblinear":
        if len(updaters) != 1 or updaters[0] not in LINEAR_UPDATERS:
            raise UserError(
                "Linear updater should be one of these options: 'shotgun', 'coord_descent'."
            )
    elif values.get("process_type") == "update":
        if any(one not in ("refresh", "prune") for one in updaters):
            raise UserError(
                "process_type 'update' can only be used with updater 'refresh' and 'prune'"
            )
    elif any(one not in TREE_UPDATERS for one in updaters):
        raise UserError(
            "Tree updater should be selected from these options: "
            f"{', '.join(repr(one) for one in TREE_UPDATERS)}."
        )
    elif sum(one in TREE_BUILDERS for one in updaters) > 1:
        raise UserError(
            "Only one tree grow plugin can be selected. Choose one from the following: "
            f"{', '.join(repr(one) for one in TREE_BUILDERS)}"
        )


def _classes_are_counted(values: Mapping[str, Any]) -> None:
    multiple = str(values.get("objective", "")).startswith("multi:")
    if multiple and "num_class" not in values:
        raise UserError("Require input for parameter 'num_class' for multi-classification")
    if "num_class" in values and "objective" not in values:
        raise UserError(
            "Do not need to setup parameter 'num_class' for learning task other than "
            "multi-classification."
        )


def _metric_fits_objective(values: Mapping[str, Any]) -> None:
    names = values.get("eval_metric", ())
    objective = str(values.get("objective", ""))
    if "auc" in names and not objective.startswith(("binary:", "rank:", "multi:")):
        raise UserError("Metric 'auc' can only be applied for classification and ranking problems.")
    if "aft-nloglik" in names and objective != "survival:aft":
        raise UserError("Metric 'aft-nloglik' can only be applied for 'survival:aft' objective.")


def _constraints_fit_tree_method(values: Mapping[str, Any]) -> None:
    method = values.get("tree_method")
    if "monotone_constraints" in values and method not in ("exact", "hist"):
        raise UserError(
            "monotone_constraints can be used only when the tree_method parameter is set to "
            "either 'exact' or 'hist'."
        )
    if "interaction_constraints" in values and method not in ("exact", "hist", "approx"):
        raise UserError(
            "interaction_constraints can be used only when the tree_method parameter is set to "
            "either 'exact', 'hist' or 'approx'."
        )


HYPERPARAMETERS = Hyperparameters(
    DECLARED,
    rules=(
        _updater_fits,
        _classes_are_counted,
        _metric_fits_objective,
        _constraints_fit_tree_method,
    ),
)
