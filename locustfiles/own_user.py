"""A user class of one's own: `locust -f locustfiles/own_user.py --host URL`. Explained in docs/own-user.md."""

from locust import between, events

from loadstair.explore.locustfile import register
from loadstair.explore.user import OwnChatUser

register(events)


class Shopper(OwnChatUser):
    wait_time = between(1, 5)

    def messages(self, asked):
        return [{"role": "user", "content": f"Where is my parcel? Answer in {asked.output_tokens} words."}]
