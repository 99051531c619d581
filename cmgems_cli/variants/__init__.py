"""Effects of variants: how much an alternative allele changes what a model says.

`variant_files` reads VCF and tables; `alleles` compares each allele with the genome and cuts its windows, or gives the
reason why it has no score; `survey` counts them. `classifier_scores` and `chain_scores` compute the scores, `scoring`
runs them in blocks, `variant_output` writes VCF and tables. `python_api` is the Python API.
"""
