"""What the displays share: matplotlib, imported when one is drawn and not before, and the colours."""

# The palette of Okabe and Ito, which colour-blind people can tell apart; the first three differ in grey print too.
COLORS = ("#0072B2", "#E69F00", "#F0E442", "#009E73", "#CC79A7", "#56B4E9")


def pyplot_module():
    """matplotlib.pyplot, or an error that says how to get it."""
    try:
        import matplotlib.pyplot as pyplot
    except ImportError as error:
        raise ImportError(
            'displays draw with matplotlib, which is not installed: pip install "mmestim[plot]".'
        ) from error
    return pyplot
