"""Reports of finished runs: tables, pictures, methods, and the source of every number.

`sources` reads the runs; the chapters, `methods` and `document` choose what is shown; `figures` draws it in the
style of `plot_style`; `html` and `markdown` render it; `output` writes it. matplotlib is imported in functions only.
"""
