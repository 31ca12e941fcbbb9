"""Watch: drift, performance and the decision to retrain."""
