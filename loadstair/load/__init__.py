"""③ Pressure. Runs inside Locust processes only: nothing outside this room may import locust or gevent."""
