"""The HTTP surface: what goes in, what comes out, which routes there are."""
