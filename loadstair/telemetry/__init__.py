"""④ Meanwhile: engines, balancer, GPUs and this host, sampled at 1 Hz on the run's clock."""
