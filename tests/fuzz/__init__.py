"""Fuzzing of every reader: damaged copies of small valid files, each opened, planned and read to its end.

`python -m tests.fuzz [FORMAT ...] [--inputs N] [--seed S]` says how many were accepted, refused and failed; `--help`
tells the rest. The property: a file is read, or refused by a `LucidError` or a `MemoryError` - no other exception, no
crash, no hang, nothing on stderr, no more than `workers.MOST_BYTES` of memory.

    seeds      small valid files
    mutations  ways to damage bytes, records and words
    fuzzers    one `Fuzzer` a format: its seeds, its damages, and the check its files go to
    checks     what is done with a file
    workers    batches of inputs in forked children, and what came of each
    guided     the same checks under Atheris, which looks for inputs that reach new code

With `--atheris` (`pip install atheris`) the inputs are guided by coverage. The same seed makes the same inputs.
`corpus` keeps files that failed once, named FORMAT_WHAT; `test_corpus.py` runs them, and some hundred inputs a format.
"""
