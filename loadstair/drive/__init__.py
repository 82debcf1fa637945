"""③ The orchestrator's end of the load: starts Locust's processes and speaks with their controller. Plain Python."""
