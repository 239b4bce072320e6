"""`headwater dataset`: training data as code."""
