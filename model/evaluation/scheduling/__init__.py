"""What a scheduler gains: memory sized by predictions, and a queue replayed with them.

cells, predictions, records --demand.py--> Source (truths, requests, site defaults; answers by quantile)
Source --memory.py--> allocations, kills and waste --sizing.py--> tables with intervals
Source --trace.py--> jobs that arrive --replay.py--> waits --queues.py--> tables over draws
report.py: gains -> Gains (JSON), render -> Markdown, plot -> plots.py
"""
