"""In-silico mutagenesis: how the output of a model changes with each base of its input.

`rows` reads sequences with their letters; `edits` lists the changes of a row and encodes the mutants, of which only
the tokens that a change touches are made anew; `effects` runs the model over them and computes changes of its output;
`effects_output` writes them as a table and as arrays. `python_api` is the Python API.
"""
