"""Networks of several modalities: branches, fusion heads and what they form together."""
