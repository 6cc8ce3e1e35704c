"""Explains a data set: one row per photo, in Parquet, by one machine or a cluster."""
