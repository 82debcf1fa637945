"""The face of Locust by itself: tabs in its own UI, a page of live charts, CSV, and a guard before all of it.

The door is `install.install_web`.
"""
