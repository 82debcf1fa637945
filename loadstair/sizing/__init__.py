"""What an asked load needs: memory, GPUs, latency, money, by closed forms. Pure."""
