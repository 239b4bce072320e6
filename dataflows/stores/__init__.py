"""Where the dataflow puts features: the online store, the Parquet tables, and their digests."""
