"""How good the predictor is, measured on the corpus: metrics, baselines and the report with its plots.

    corpus -> cells.py -> forecaster, baselines.py, boosting.py (store.py) -> results.py -> report.py

Fit on `train`, choose on `val`, touch the tests only to report. `python -m model.evaluation` runs it all.
"""
