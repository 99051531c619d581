"""Inference: class probabilities and embeddings of any amount of sequence, in bounded memory.

`record_readers` reads sequences in chunks; `row_blocks` encodes them, whole or as sliding windows, some
thousands at a time; `loading` applies a model to a block in micro-batches by length; `prediction` and
`embedding` compute the results; `output_formats` and `resumable_output` write files that appear when they are
complete. `python_api` is the Python API.
"""
