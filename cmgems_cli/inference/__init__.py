"""Using a model: class probabilities and embeddings of any amount of sequence, in bounded memory.

`sources` reads sequences piece by piece, `blocks` encodes them, whole or as sliding windows, some thousands
at a time, `models` runs a model over a block in micro-batches by length, `prediction` and `embedding` say
what is computed, `outputs` writes files that appear when they are complete. `notebook` is the Python API.
"""
