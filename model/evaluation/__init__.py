"""How good the predictor is, measured on the corpus: metrics, baselines, statistics and the report with its plots.

    corpus -> cells.py -> forecaster.py, suite.py (store.py) -> predictions of every method
    predictions -> scoring.py (metrics.py, parts.py) -> scores of every source
                -> comparison.py, significance.py -> verdict.py, headline.py -> met or missed, with intervals
    repeats in the corpus -> noise.py -> sources that nobody can predict better
    predictions -> scheduling/ -> what a scheduler gains
    results.py (JSON) -> report.py, report_verdict.py, report_tables.py, plots.py, ratio_plots.py

Fit on `train`, choose on `val`, touch the tests only to report. `jobcast evaluate` runs it all (run.py).
"""
