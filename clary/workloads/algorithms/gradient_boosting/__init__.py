"""The parts of the XGBoost algorithm, which `clary.workloads.algorithms.xgboost` declares."""
