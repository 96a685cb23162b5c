"""How long an engine call takes, as a moving fit `fixed + per_prompt * prompts`."""


class ServiceTime:
    """Least squares over recent calls; each new call makes the older ones count less."""

    def __init__(self, decay: float = 0.95) -> None:
        self._decay = decay
        self._weight = self._size = self._seconds = self._size_squared = self._product = 0.0

    def observe(self, prompts: int, seconds: float) -> None:
        """Learn from one engine call."""
        keep = self._decay
        self._weight = keep * self._weight + 1
        self._size = keep * self._size + prompts
        self._seconds = keep * self._seconds + seconds
        self._size_squared = keep * self._size_squared + prompts * prompts
        self._product = keep * self._product + prompts * seconds

    def seconds(self, prompts: int) -> float:
        """Expected duration of a call; 0 while nothing is known."""
        if self._weight == 0 or prompts == 0:
            return 0.0
        size, seconds = self._size / self._weight, self._seconds / self._weight
        variance = self._size_squared / self._weight - size * size
        covariance = self._product / self._weight - size * seconds
        slope = max(0.0, covariance / variance) if variance > 1e-9 else 0.0
        return max(seconds + slope * (prompts - size), seconds * min(1.0, prompts / size))

    def to_serve(self, prompts: int, max_batch: int) -> float:
        """Expected time for that many prompts, one call after another."""
        full, rest = divmod(prompts, max_batch)
        return full * self.seconds(max_batch) + self.seconds(rest)
