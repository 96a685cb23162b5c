"""Who may ask, and how often: API keys, where they come from, rate limits, and the gate before every route."""
