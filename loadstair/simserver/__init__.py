"""An engine we own: scheduler (pure, seeded), HTTP server, ledger of what it really did."""
