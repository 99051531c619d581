"""A labelled data set from regions of a genome, with negatives that match them.

`options` says how; `matching` draws the negatives; `building` reads the regions, splits and writes; `balance` compares
positives and negatives.
"""
