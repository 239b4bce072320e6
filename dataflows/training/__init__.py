"""Models out of the dataflow's own examples, all at once: read, split, search, export, publish.

LightGBM, scikit-learn and Optuna are imported only in the modules named after what they do with
them, so that the rest works without the extra ``headwater[train]``.
"""
