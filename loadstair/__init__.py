"""Loadstair finds where an LLM serving topology saturates.

Flow: plan → topology → load → samples (files) → analysis → report, telemetry beside load.
"""

__version__ = "0.1.0"
