"""What is known about a job from other jobs: a quick tabular estimate that the decoder reads as evidence.

Job --facts--> numbers, strings, words --columns, encodings--> one row --trees--> a value per target
                                                  history --blend--> the value moved by what past runs took

The decoder gets the estimates as number tokens behind the text (`model.prompt`) and writes the answer: it weighs them
against the text, the history and how familiar the job is.
"""
