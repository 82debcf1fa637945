"""The catalogue's facts, each with its source: models.json and gpus.json."""
