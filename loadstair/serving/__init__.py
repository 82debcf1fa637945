"""What is known of models and GPUs: catalogue, memory, step time. Pure."""
