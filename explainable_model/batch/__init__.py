"""Explains a data set: one row per photo, in Parquet, by one machine or a cluster."""

from explainable_model.batch.batch_explainer import BatchExplainer
from explainable_model.batch.run import BatchSummary, explain_data_set
from explainable_model.batch.run_folder import RunFolder, open_run
from explainable_model.batch.schema import decode_map, make_schema, make_spark_schema

__all__ = [
    "BatchExplainer",
    "BatchSummary",
    "RunFolder",
    "decode_map",
    "explain_data_set",
    "make_schema",
    "make_spark_schema",
    "open_run",
]
