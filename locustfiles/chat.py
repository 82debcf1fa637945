"""Streaming chat completions.

By itself: `locust -f locustfiles/chat.py --host URL --model M --input-tokens 128 --output-tokens 64`.
Under `loadstair run`, the orchestrator drives it.
"""

from locust import events

from loadstair.explore.locustfile import register
from loadstair.load.user import ChatUser

__all__ = ["ChatUser"]

register(events)
