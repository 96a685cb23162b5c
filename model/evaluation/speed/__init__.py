"""What a prediction costs, beside its floor and beside how else a language model could write numbers.

ways.py     the ways to answer a prompt: ours, transformers' generate(), samples, templates
vllm_ways.py the same on vLLM, where it is installed
timing.py   interleaved rounds, and clients that ask all at once
growth.py   how cost grows with the prompt, targets, quantiles and the model; start and memory
page.py     docs/performance.md with its plots
"""
