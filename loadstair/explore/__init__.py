"""Locust by itself: its options, its live numbers, its pages. Nothing here runs while an orchestrator drives."""
