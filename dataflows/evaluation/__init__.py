"""How good a model is, by version and by segment, from predictions whose label came.

Pure logic: integers that are added to. How rows are cut into calls, and in which order they are
put together, changes no bit of any figure.
"""
