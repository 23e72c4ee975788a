"""A command."""


def main(arguments: list[str]) -> int:
    """Greets whoever is named."""
    print(f"hello {' '.join(arguments)}")
    return 0
