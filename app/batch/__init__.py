"""Bulk scoring: `jobcast batch requests.jsonl answers.jsonl`.

    input ─► records ─► windows of distinct requests ─► read ─► engine ─► answers ─► output, in the input's order
             (source)   (windows)                       └──── stages ────┘           (output, ledger)
                                                        (processes or Ray)

An answer depends on its window alone, and a window on the input alone: whoever computes it, in whatever order, after
however many restarts, the output has the same bytes. That needs fixed windows, since what rides with a prompt in one
call of the engine moves the last digits of its answer.
"""
