"""The predictor, importable without the service."""
