"""The front door from Python: the functions of `ssl_zoo`, for scripts and notebooks."""
