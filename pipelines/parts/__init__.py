"""Parts of pipelines that several pipelines share."""
