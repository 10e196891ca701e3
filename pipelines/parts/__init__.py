"""The parts that the pipelines are put together from."""
