"""Training data as code: a model's examples, made of a commit and a range of the log."""
